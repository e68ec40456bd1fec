// The module rankine._native: checks arguments, releases the GIL, calls a kernel.  Typed in src/rankine/_native.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "array.h"
#include "fused/bindings.h"
#include "gather.h"
#include "id_list.h"
#include "ids.h"
#include "json_list.h"
#include "kernel_wait.h"
#include "lookup.h"
#include "reactor_bindings.h"
#include "table.h"
#include "top_k.h"

namespace nb = nanobind;

namespace rankine {
namespace {

// To give the GIL away and wait for it again takes longer than to go through a usual request.
constexpr std::size_t kWorthReleasing = 1 << 16;

std::int64_t py_check_ids(nb::handle ids_object, std::int64_t rows) {
  const Array ids(ids_object, "ids", {Dtype::kInt32, Dtype::kInt64}, 1);
  if (rows < 0) throw nb::value_error("rows: must be at least 0");
  std::optional<nb::gil_scoped_release> released;
  if (ids.size(0) >= kWorthReleasing) released.emplace();
  if (ids.dtype() == Dtype::kInt32) return check_ids(ids.data<const std::int32_t>(), ids.size(0), rows);
  return check_ids(ids.data<const std::int64_t>(), ids.size(0), rows);
}

using Positions = nb::ndarray<nb::numpy, std::int32_t, nb::ndim<1>>;

Positions py_top_k(nb::handle scores_object, std::int64_t k) {
  const Array scores(scores_object, "scores", {Dtype::kFloat32}, 1);
  if (k < 1) throw nb::value_error("k: must be at least 1");
  const std::size_t count = scores.size(0);
  if (count > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    throw nb::value_error("scores: must have fewer than 2**31 entries");
  const std::size_t kept = std::min(count, static_cast<std::size_t>(k));
  auto positions = std::make_unique<std::int32_t[]>(kept);
  std::optional<nb::gil_scoped_release> released;
  if (count >= kWorthReleasing) released.emplace();
  top_k(scores.data<const float>(), count, kept, positions.get());
  released.reset();
  nb::capsule owner(positions.get(), [](void* memory) noexcept { delete[] static_cast<std::int32_t*>(memory); });
  return Positions(positions.release(), {kept}, owner);
}

using Ids = nb::ndarray<nb::numpy, std::int64_t, nb::ndim<1>>;

Ids as_array(std::unique_ptr<std::int64_t[]> ids, std::size_t count) {
  nb::capsule owner(ids.get(), [](void* memory) noexcept { delete[] static_cast<std::int64_t*>(memory); });
  return Ids(ids.release(), {count}, owner);
}

// Positions of the best of candidates that have one id and one logit each.
std::vector<std::int32_t> best_positions(const Array& ids, const Array& logits, std::int64_t k) {
  const std::size_t count = ids.size(0);
  logits.require(0, count, "one row for each id");
  logits.require(1, 1, "one task");
  if (k < 1) throw nb::value_error("k: must be at least 1");
  if (count > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    throw nb::value_error("ids: must have fewer than 2**31 entries");
  const std::size_t kept = std::min(count, static_cast<std::size_t>(k));
  std::vector<std::int32_t> positions(kept);
  std::optional<nb::gil_scoped_release> released;
  if (count >= kWorthReleasing) released.emplace();
  top_k(logits.data<const float>(), count, kept, positions.data());
  return positions;
}

// The ids of the best candidates, and their scores, as a reply tells them.
nb::tuple py_best_ids(nb::handle ids_object, nb::handle logits_object, std::int64_t k, bool sigmoid) {
  const Array ids(ids_object, "ids", {Dtype::kInt64}, 1);
  const Array logits(logits_object, "logits", {Dtype::kFloat32}, 2);
  nb::list best, scores;
  for (const std::int32_t at : best_positions(ids, logits, k)) {
    const float logit = logits.data<const float>()[at];
    best.append(nb::int_(ids.data<const std::int64_t>()[at]));
    scores.append(nb::float_(static_cast<double>(sigmoid ? rankine::sigmoid(logit) : logit)));
  }
  return nb::make_tuple(best, scores);
}

// The same as text: a Python object for each would take longer than to choose them.
nb::tuple py_best_json(nb::handle ids_object, nb::handle logits_object, std::int64_t k, bool sigmoid) {
  const Array ids(ids_object, "ids", {Dtype::kInt64}, 1);
  const Array logits(logits_object, "logits", {Dtype::kFloat32}, 2);
  const std::vector<std::int32_t> positions = best_positions(ids, logits, k);
  JsonList best(positions.size()), scores(positions.size());
  for (const std::int32_t at : positions) {
    const float logit = logits.data<const float>()[at];
    best.add(ids.data<const std::int64_t>()[at]);
    scores.add(static_cast<double>(sigmoid ? rankine::sigmoid(logit) : logit));
  }
  const std::string_view best_text = best.end(), scores_text = scores.end();
  return nb::make_tuple(nb::bytes(best_text.data(), best_text.size()),
                        nb::bytes(scores_text.data(), scores_text.size()));
}

std::optional<Ids> py_read_id_list(nb::bytes text) {
  const std::size_t room = text.size() / 2;  // a digit and what parts it from the next
  std::unique_ptr<std::int64_t[]> ids(new std::int64_t[room]);
  std::optional<nb::gil_scoped_release> released;
  if (text.size() >= kWorthReleasing) released.emplace();
  const std::int64_t count = read_id_list(text.c_str(), text.size(), ids.get(), room);
  released.reset();
  if (count < 0) return std::nullopt;
  return as_array(std::move(ids), static_cast<std::size_t>(count));
}

Ids py_find_places(nb::handle ids_object, std::int64_t first, nb::handle at_object) {
  const Array ids(ids_object, "ids", {Dtype::kInt64}, 1);
  const Array at(at_object, "at", {Dtype::kInt32}, 1);
  if (at.size(0) == 0) throw nb::value_error("at: must have an entry at least");
  const std::size_t count = ids.size(0);
  std::unique_ptr<std::int64_t[]> found(new std::int64_t[count]);
  std::optional<nb::gil_scoped_release> released;
  if (count >= kWorthReleasing) released.emplace();
  find_places(ids.data<const std::int64_t>(), count, first, at.data<const std::int32_t>(), at.size(0), found.get());
  released.reset();
  return as_array(std::move(found), count);
}

// The slice [column, column + dim) of every row of `out`, and the row positions that fill it.
class Slice {
 public:
  Slice(nb::handle index, nb::handle out, std::int64_t column, std::size_t dim, Dtype dtype = Dtype::kFloat32)
      : index_(index, "index", {Dtype::kInt32}, 1), out_(out, "out", {dtype}, 2, true) {
    out_.require(0, index_.size(0), "one row for each entry of index");
    const std::size_t width = out_.size(1);
    if (column < 0 || dim > width || static_cast<std::size_t>(column) > width - dim)
      throw nb::value_error(("column: " + std::to_string(column) + " leaves no room for " + std::to_string(dim) +
                             " columns in out, which has " + std::to_string(width)).c_str());
    column_ = static_cast<std::size_t>(column);
  }

  // `floor`: what values are raised to first.
  RoundedTarget rounded(float floor, float step, float zero) const {
    return {index_.data<const std::int32_t>(), index_.size(0), out_.data<std::uint8_t>(), out_.size(1), column_,
            floor, step, zero};
  }

  Target target() const {
    return {index_.data<const std::int32_t>(), index_.size(0), out_.data<float>(), out_.size(1), column_};
  }

 private:
  Array index_;
  Array out_;
  std::size_t column_ = 0;
};

std::int64_t py_lookup_one(const Table& table, nb::handle values_object, nb::handle index, nb::handle out,
                           std::int64_t column) {
  const Array values(values_object, "values", {Dtype::kInt32}, 1);
  const Slice slice(index, out, column, table.dim());
  return table.run([&](const auto& rows) {
    return lookup_one(rows, values.data<const std::int32_t>(), values.size(0), slice.target());
  });
}

Pooling pooling_of(const std::string& name) {
  if (name == "sum") return Pooling::kSum;
  if (name == "mean") return Pooling::kMean;
  if (name == "max") return Pooling::kMax;
  throw nb::value_error("pooling: must be 'sum', 'mean' or 'max'");
}

// Lists of ids with optional weights.
class BagsArgument {
 public:
  BagsArgument(nb::handle values, nb::handle offsets, nb::handle weights, Pooling pooling)
      : values_(values, "values", {Dtype::kInt32}, 1), offsets_(offsets, "offsets", {Dtype::kInt32}, 1),
        pooling_(pooling) {
    if (offsets_.size(0) == 0) throw nb::value_error("offsets: must have at least one entry");
    if (weights.is_none()) return;
    if (pooling == Pooling::kMax) throw nb::value_error("weights: must be None where pooling is 'max'");
    weights_.emplace(weights, "weights", std::initializer_list<Dtype>{Dtype::kFloat32}, 1);
    weights_->require(0, values_.size(0), "one for each entry of values");
  }

  Bags bags() const {
    return {values_.data<const std::int32_t>(), values_.size(0), offsets_.data<const std::int32_t>(),
            offsets_.size(0) - 1, weights_ ? weights_->data<const float>() : nullptr, pooling_};
  }

 private:
  Array values_;
  Array offsets_;
  std::optional<Array> weights_;
  Pooling pooling_;
};

std::int64_t py_lookup_bag(const Table& table, nb::handle values, nb::handle offsets, nb::handle weights,
                           nb::handle index, nb::handle out, std::int64_t column, const std::string& pooling) {
  const BagsArgument bags(values, offsets, weights, pooling_of(pooling));
  const Slice slice(index, out, column, table.dim());
  return table.run([&](const auto& rows) { return lookup_bag(rows, bags.bags(), slice.target()); });
}

std::int64_t py_lookup_sequence(const Table& table, nb::handle values, nb::handle offsets, nb::handle weights,
                                nb::handle index, nb::handle out, std::int64_t column, std::int64_t length) {
  const BagsArgument bags(values, offsets, weights, Pooling::kSum);
  if (length < 1 || length > (std::int64_t{1} << 24)) throw nb::value_error("length: must be from 1 to 2**24");
  const auto most = static_cast<std::size_t>(length);
  const Slice slice(index, out, column, most * table.dim() + 1);
  return table.run([&](const auto& rows) { return lookup_sequence(rows, bags.bags(), most, slice.target()); });
}

std::int64_t py_gather_dense(nb::handle values_object, nb::handle index, nb::handle out, std::int64_t column) {
  const Array values(values_object, "values", {Dtype::kFloat32}, 2);
  const Slice slice(index, out, column, values.size(1));
  const FloatRows rows{values.data<const float>(), nullptr, nullptr, values.size(0), values.size(1)};
  nb::gil_scoped_release released;
  return gather_dense(rows, slice.target());
}

// A slice of stored rows: floats, halves, or bytes with a scale and a bias a row.
class StoredRows {
 public:
  StoredRows(nb::handle rows, nb::handle scale, nb::handle bias, std::int64_t start, std::size_t width)
      : rows_(rows, "rows", {Dtype::kFloat32, Dtype::kFloat16, Dtype::kUint8}, 2) {
    const bool quantized = rows_.dtype() == Dtype::kUint8;
    if (quantized == scale.is_none() || quantized == bias.is_none())
      throw nb::value_error("scale and bias: uint8 rows need one float32 a row each, other rows none");
    if (quantized) {
      scale_.emplace(scale, "scale", std::initializer_list<Dtype>{Dtype::kFloat32}, 1);
      bias_.emplace(bias, "bias", std::initializer_list<Dtype>{Dtype::kFloat32}, 1);
      scale_->require(0, rows_.size(0), "one for each row");
      bias_->require(0, rows_.size(0), "one for each row");
    }
    start_ = within("start", start, width, rows_);
    width_ = width;
  }

  // Throws ValueError unless [start, start + width) lies within the rows.
  static std::size_t within(const char* name, std::int64_t start, std::size_t width, const Array& rows) {
    const std::size_t dim = rows.size(1);
    if (start < 0 || width > dim || static_cast<std::size_t>(start) > dim - width)
      throw nb::value_error((std::string(name) + ": " + std::to_string(start) + " leaves no " + std::to_string(width) +
                             " columns of the " + std::to_string(dim) + " in " + rows.name()).c_str());
    return static_cast<std::size_t>(start);
  }

  std::int64_t gather(const Addend& addend, const Target& target) const {
    return with([&](const auto& rows) { return gather_slice(rows, start_, width_, addend, target); });
  }

  std::int64_t gather(const Addend& addend, const RoundedTarget& target) const {
    std::vector<float> row(width_);
    return with([&](const auto& rows) { return gather_rounded(rows, start_, width_, addend, target, row.data()); });
  }

 private:
  template <class Use>
  std::int64_t with(Use use) const {
    switch (rows_.dtype()) {
      case Dtype::kUint8: return use(typed<Int8Rows, std::uint8_t, float>());
      case Dtype::kFloat16: return use(typed<HalfRows, Half, Unscaled>());
      default: return use(typed<FloatRows, float, Unscaled>());
    }
  }

  template <class Rows, class T, class S>
  Rows typed() const {
    const void* scale = scale_ ? scale_->data<const void>() : nullptr;
    const void* bias = bias_ ? bias_->data<const void>() : nullptr;
    return {rows_.data<const T>(), static_cast<const S*>(scale), static_cast<const S*>(bias), rows_.size(0),
            rows_.size(1)};
  }

  Array rows_;
  std::optional<Array> scale_;
  std::optional<Array> bias_;
  std::size_t start_ = 0;
  std::size_t width_ = 0;
};

// What is added to the rows: nothing, or rows of floats.
class Added {
 public:
  Added(nb::handle rows, nb::handle index, std::int64_t start, std::size_t count, std::size_t width) {
    if (rows.is_none()) return;
    rows_.emplace(rows, "added", std::initializer_list<Dtype>{Dtype::kFloat32}, 2);
    index_.emplace(index, "added_index", std::initializer_list<Dtype>{Dtype::kInt32}, 1);
    index_->require(0, count, "one for each entry of index");
    start_ = StoredRows::within("added_start", start, width, *rows_);
  }

  Addend addend() const {
    if (!rows_) return {};
    return {rows_->data<const float>(), rows_->size(0), rows_->size(1), start_, index_->data<const std::int32_t>()};
  }

 private:
  std::optional<Array> rows_;
  std::optional<Array> index_;
  std::size_t start_ = 0;
};

std::size_t checked_width(std::int64_t width) {
  if (width < 1) throw nb::value_error("width: must be at least 1");
  return static_cast<std::size_t>(width);
}

std::int64_t py_gather_slice(nb::handle rows_object, nb::handle scale, nb::handle bias, std::int64_t start,
                             std::int64_t width, nb::handle index, nb::handle out, std::int64_t column,
                             nb::handle added_object, nb::handle added_index, std::int64_t added_start) {
  const std::size_t columns = checked_width(width);
  const StoredRows rows(rows_object, scale, bias, start, columns);
  const Slice slice(index, out, column, columns);
  const Added added(added_object, added_index, added_start, slice.target().rows, columns);
  nb::gil_scoped_release released;
  return rows.gather(added.addend(), slice.target());
}

std::int64_t py_gather_rounded(nb::handle rows_object, nb::handle scale, nb::handle bias, std::int64_t start,
                               std::int64_t width, nb::handle index, nb::handle out, std::int64_t column,
                               nb::handle added_object, nb::handle added_index, std::int64_t added_start, float floor,
                               float step, std::int64_t zero) {
  const std::size_t columns = checked_width(width);
  if (!(step > 0)) throw nb::value_error("step: must be positive");
  if (zero < 0 || zero > 255) throw nb::value_error("zero: must be from 0 to 255");
  const StoredRows rows(rows_object, scale, bias, start, columns);
  const Slice slice(index, out, column, columns, Dtype::kUint8);
  const Added added(added_object, added_index, added_start, slice.target().rows, columns);
  nb::gil_scoped_release released;
  return rows.gather(added.addend(), slice.rounded(floor, step, static_cast<float>(zero)));
}

}  // namespace
}  // namespace rankine

NB_MODULE(_native, module) {
  using namespace nb::literals;
  nb::set_leak_warnings(false);  // a lookup that lives until the interpreter ends is no leak worth a message
  module.doc() = "Native kernels of Rankine; see _native.pyi for their contracts.";
  module.def("check_ids", &rankine::py_check_ids, "ids"_a, "rows"_a);
  module.def("top_k", &rankine::py_top_k, "scores"_a, "k"_a);
  module.def("best_ids", &rankine::py_best_ids, "ids"_a, "logits"_a, "k"_a, "sigmoid"_a);
  module.def("best_json", &rankine::py_best_json, "ids"_a, "logits"_a, "k"_a, "sigmoid"_a);
  module.def("read_id_list", &rankine::py_read_id_list, "text"_a);
  rankine::add_reactor(module);
  module.def("ms_since_data", &rankine::ms_since_data, "descriptor"_a);
  module.def("find_places", &rankine::py_find_places, "ids"_a, "first"_a, "at"_a);
  nb::class_<rankine::Table>(module, "Table", nb::is_final())
      .def_prop_ro("count", &rankine::Table::count)
      .def_prop_ro("dim", &rankine::Table::dim);
  module.def("plain_table", &rankine::Table::plain, "rows"_a, "scale"_a.none(), "bias"_a.none(), "columns"_a.none());
  module.def("mixed_table", &rankine::Table::mixed, "hot"_a, "cold"_a, "bitmap"_a, "ranks"_a, "count"_a);
  module.def("quotient_remainder_table", &rankine::Table::quotient_remainder, "quotient"_a, "remainder"_a, "count"_a,
             "combine"_a);
  module.def("lookup_one", &rankine::py_lookup_one, "table"_a, "values"_a, "index"_a, "out"_a, "column"_a);
  module.def("lookup_bag", &rankine::py_lookup_bag, "table"_a, "values"_a, "offsets"_a, "weights"_a.none(), "index"_a,
             "out"_a, "column"_a, "pooling"_a);
  module.def("lookup_sequence", &rankine::py_lookup_sequence, "table"_a, "values"_a, "offsets"_a, "weights"_a.none(),
             "index"_a, "out"_a, "column"_a, "length"_a);
  rankine::fused::add_engine(module);
  module.def("gather_dense", &rankine::py_gather_dense, "values"_a, "index"_a, "out"_a, "column"_a);
  module.def("gather_slice", &rankine::py_gather_slice, "rows"_a, "scale"_a.none(), "bias"_a.none(), "start"_a,
             "width"_a, "index"_a, "out"_a, "column"_a, "added"_a.none(), "added_index"_a.none(), "added_start"_a);
  module.def("gather_rounded", &rankine::py_gather_rounded, "rows"_a, "scale"_a.none(), "bias"_a.none(), "start"_a,
             "width"_a, "index"_a, "out"_a, "column"_a, "added"_a.none(), "added_index"_a.none(), "added_start"_a,
             "floor"_a, "step"_a, "zero"_a);
}
