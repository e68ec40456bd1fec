// A table as Python holds it: checked once when it is made, read in place by any number of lookups at a time.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "array.h"
#include "rows.h"

namespace rankine {

// Must be made and destroyed with the GIL held; may be read without it.
class Table {
 public:
  // The forms of rows.h.  All throw TypeError or ValueError for arrays that are or fit no such table.
  static Table plain(nanobind::handle rows, nanobind::handle scale, nanobind::handle bias, nanobind::handle columns);
  static Table mixed(const Table& hot, const Table& cold, nanobind::handle bitmap, nanobind::handle ranks,
                     std::int64_t count);
  static Table quotient_remainder(const Table& quotient, const Table& remainder, std::int64_t count,
                                  const std::string& combine);

  std::size_t count() const {
    return std::visit([](const auto& rows) { return rows.count; }, rows_);
  }
  std::size_t dim() const {
    return std::visit([](const auto& rows) { return rows.dim; }, rows_);
  }

  const TableRows& rows() const { return rows_; }

  // Calls kernel with the rows as what they are; without the GIL.
  template <class Kernel>
  std::int64_t run(Kernel&& kernel) const {
    nanobind::gil_scoped_release released;
    if (const auto* rows = std::get_if<AnyRows>(&rows_)) return rows->with(kernel);
    if (const auto* rows = std::get_if<MixedRows>(&rows_)) return kernel(*rows);
    auto rows = std::get<QuotientRemainderRows>(rows_);
    std::vector<float> scratch(rows.dim);
    rows.scratch = scratch.data();
    return kernel(rows);
  }

 private:
  using Arrays = std::vector<std::shared_ptr<const Array>>;

  Table(TableRows rows, Arrays arrays)
      : rows_(rows), arrays_(std::move(arrays)) {}

  // The rows of a part, which must be a plain table.
  const AnyRows& part(const char* name) const;

  TableRows rows_;
  Arrays arrays_;  // what the rows point into
};

}  // namespace rankine
