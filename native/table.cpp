#include "table.h"

#include <bit>
#include <cstring>
#include <limits>

namespace nb = nanobind;

namespace rankine {
namespace {

using Shared = std::shared_ptr<const Array>;

constexpr std::size_t kMostRows = std::numeric_limits<std::int32_t>::max();  // ids are int32

[[noreturn]] void fail(const std::string& message) { throw nb::value_error(message.c_str()); }

Shared taken(nb::handle object, const char* name, std::initializer_list<Dtype> dtypes, int dimensions) {
  return std::make_shared<const Array>(object, name, dtypes, dimensions);
}

// The scale or bias of rows: none for floats, one a row for uint8.
Shared row_factor(nb::handle object, const char* name, const Array& rows) {
  const bool quantized = rows.dtype() == Dtype::kUint8;
  if (quantized == object.is_none())
    fail(std::string(name) + (quantized ? ": uint8 rows need one float32 or float16 per row"
                                        : ": must be None unless rows are uint8"));
  if (!quantized) return nullptr;
  Shared factor = taken(object, name, {Dtype::kFloat32, Dtype::kFloat16}, 1);
  factor->require(0, rows.size(0), "one for each row");
  return factor;
}

Form form_of(const Array& rows, const Array* scale, bool packed) {
  if (rows.dtype() == Dtype::kFloat32) return Form::kFloat32;
  if (rows.dtype() == Dtype::kFloat16) return Form::kFloat16;
  if (scale->dtype() == Dtype::kFloat16) return packed ? Form::kInt4Half : Form::kInt8Half;
  return packed ? Form::kInt4 : Form::kInt8;
}

std::size_t checked_count(std::int64_t count) {
  if (count < 0 || static_cast<std::uint64_t>(count) > kMostRows) fail("count: must be from 0 to 2**31 - 1");
  return static_cast<std::size_t>(count);
}

void require_rows(const AnyRows& part, const char* name, std::size_t expected) {
  if (part.count != expected)
    fail(std::string(name) + ": must have " + std::to_string(expected) + " rows, got " + std::to_string(part.count));
}

void require_same_dim(const AnyRows& left, const AnyRows& right) {
  if (left.dim != right.dim)
    fail("both parts must have one width, got " + std::to_string(left.dim) + " and " + std::to_string(right.dim));
}

// Hot rows of a bitmap; throws unless the ranks are those of the bitmap and no bit is set past the last row.
std::size_t hot_rows(const std::uint8_t* bitmap, const std::int32_t* ranks, std::size_t count) {
  std::size_t hot = 0;
  for (std::size_t word = 0; word * 64 < count; ++word) {
    std::uint64_t bits;
    std::memcpy(&bits, bitmap + word * 8, sizeof bits);
    if (ranks[word] < 0 || static_cast<std::size_t>(ranks[word]) != hot) fail("ranks: do not fit the bitmap");
    const std::size_t rows = count - word * 64;
    if (rows < 64 && bits >> rows != 0) fail("bitmap: has bits past the last row");
    hot += static_cast<std::size_t>(std::popcount(bits));
  }
  return hot;
}

}  // namespace

const AnyRows& Table::part(const char* name) const {
  const auto* rows = std::get_if<AnyRows>(&rows_);
  if (!rows) fail(std::string(name) + ": must be a plain table");
  return *rows;
}

Table Table::plain(nb::handle rows_object, nb::handle scale_object, nb::handle bias_object, nb::handle columns) {
  const Shared rows = taken(rows_object, "rows", {Dtype::kFloat32, Dtype::kFloat16, Dtype::kUint8}, 2);
  const Shared scale = row_factor(scale_object, "scale", *rows);
  const Shared bias = row_factor(bias_object, "bias", *rows);
  if (scale && scale->dtype() != bias->dtype()) fail("bias: must have the dtype of scale");
  std::size_t dim = rows->size(1);
  if (!columns.is_none()) {
    const auto given = nb::cast<std::int64_t>(columns);
    if (rows->dtype() != Dtype::kUint8) fail("columns: must be None unless rows are uint8");
    if (given < 0 || (static_cast<std::uint64_t>(given) + 1) / 2 != dim)
      fail("columns: " + std::to_string(given) + " do not fit rows of " + std::to_string(dim) + " bytes");
    dim = static_cast<std::size_t>(given);
  }
  const AnyRows made{form_of(*rows, scale.get(), !columns.is_none()), rows->data<const void>(),
                     scale ? scale->data<const void>() : nullptr, bias ? bias->data<const void>() : nullptr,
                     rows->size(0), dim};
  return Table(made, {rows, scale, bias});
}

Table Table::mixed(const Table& hot, const Table& cold, nb::handle bitmap_object, nb::handle ranks_object,
                   std::int64_t count) {
  const AnyRows& hot_part = hot.part("hot");
  const AnyRows& cold_part = cold.part("cold");
  require_same_dim(hot_part, cold_part);
  const std::size_t rows = checked_count(count);
  const std::size_t words = (rows + 63) / 64;
  const Shared bitmap = taken(bitmap_object, "bitmap", {Dtype::kUint8}, 1);
  const Shared ranks = taken(ranks_object, "ranks", {Dtype::kInt32}, 1);
  bitmap->require(0, words * 8, "eight bytes for each 64 rows");
  ranks->require(0, words, "one for each 64 rows");
  const auto* bits = bitmap->data<const std::uint8_t>();
  const auto* before = ranks->data<const std::int32_t>();
  const std::size_t hot_count = hot_rows(bits, before, rows);
  require_rows(hot_part, "hot", hot_count);
  require_rows(cold_part, "cold", rows - hot_count);
  Arrays arrays = hot.arrays_;
  arrays.insert(arrays.end(), cold.arrays_.begin(), cold.arrays_.end());
  arrays.insert(arrays.end(), {bitmap, ranks});
  return Table(MixedRows{hot_part, cold_part, bits, before, rows, hot_part.dim}, std::move(arrays));
}

Table Table::quotient_remainder(const Table& quotient, const Table& remainder, std::int64_t count,
                                const std::string& combine) {
  const AnyRows& left = quotient.part("quotient");
  const AnyRows& right = remainder.part("remainder");
  require_same_dim(left, right);
  const std::size_t rows = checked_count(count);
  if (right.count == 0 || right.count > kMostRows) fail("remainder: must have from 1 to 2**31 - 1 rows");
  require_rows(left, "quotient", (rows + right.count - 1) / right.count);
  if (combine != "product" && combine != "sum") fail("combine: must be 'product' or 'sum'");
  Arrays arrays = quotient.arrays_;
  arrays.insert(arrays.end(), remainder.arrays_.begin(), remainder.arrays_.end());
  return Table(QuotientRemainderRows{left, right, combine == "sum", nullptr, rows, right.dim}, std::move(arrays));
}

}  // namespace rankine
