#include "lookup.h"

#include <algorithm>
#include <limits>

#include "multiversion.h"

namespace rankine {
namespace {

// How many rows ahead the table's row is fetched: a large table lies in DRAM, about 100 ns away.
constexpr std::size_t kAhead = 8;

RANKINE_INLINE bool outside(std::int32_t id, std::size_t limit) {
  // A negative id becomes a huge unsigned number: one comparison checks both ends.
  return static_cast<std::size_t>(static_cast<std::int64_t>(id)) >= limit;
}

// The value of one cell; a and b are the scale and bias of its row.
RANKINE_INLINE float cell(float value, float, float) { return value; }
RANKINE_INLINE float cell(Half value, float, float) { return to_float(value); }
RANKINE_INLINE float cell(std::uint8_t value, float a, float b) { return static_cast<float>(value) * a + b; }

// kDim is the width of the table where it is a common one, so that the loops below unroll; 0: read it from the table.
template <std::size_t kDim, class T>
RANKINE_INLINE std::size_t dim_of(const Table<T>& table) {
  return kDim != 0 ? kDim : table.dim;
}

template <std::size_t kDim, class T>
RANKINE_INLINE void write_row(const Table<T>& table, std::size_t row, float* RANKINE_RESTRICT out) {
  const std::size_t dim = dim_of<kDim>(table);
  const T* RANKINE_RESTRICT from = table.cells + row * dim;
  const float a = table.scale ? table.scale[row] : 1.0f;
  const float b = table.bias ? table.bias[row] : 0.0f;
  for (std::size_t d = 0; d < dim; ++d) out[d] = cell(from[d], a, b);
}

template <std::size_t kDim, bool kWeighted, class T>
RANKINE_INLINE void add_row(const Table<T>& table, std::size_t row, float weight, float* RANKINE_RESTRICT out) {
  const std::size_t dim = dim_of<kDim>(table);
  const T* RANKINE_RESTRICT from = table.cells + row * dim;
  const float a = table.scale ? table.scale[row] : 1.0f;
  const float b = table.bias ? table.bias[row] : 0.0f;
  for (std::size_t d = 0; d < dim; ++d) {
    const float value = cell(from[d], a, b);
    out[d] += kWeighted ? weight * value : value;
  }
}

template <class T>
RANKINE_INLINE void fetch_ahead(const Table<T>& table, const std::int32_t* values, std::size_t count,
                                const Target& target, std::size_t r) {
  if (r + kAhead >= target.rows) return;
  const std::int32_t i = target.index[r + kAhead];
  if (outside(i, count)) return;
  const std::int32_t value = values[i];
  if (!outside(value, table.vocabulary)) RANKINE_PREFETCH(table.cells + static_cast<std::size_t>(value) * table.dim);
}

template <std::size_t kDim, class T>
RANKINE_INLINE std::int64_t one(const Table<T>& table, const std::int32_t* values, std::size_t count,
                                const Target& target) {
  for (std::size_t r = 0; r < target.rows; ++r) {
    fetch_ahead(table, values, count, target, r);
    const std::int32_t i = target.index[r];
    if (outside(i, count)) return static_cast<std::int64_t>(r);
    const std::int32_t value = values[i];
    if (outside(value, table.vocabulary)) return static_cast<std::int64_t>(r);
    write_row<kDim>(table, static_cast<std::size_t>(value), target.cells + r * target.width + target.column);
  }
  return -1;
}

// The largest of each column of values[begin:end]; false at a value outside the vocabulary.
template <std::size_t kDim, class T>
RANKINE_INLINE bool pool_max(const Table<T>& table, const Bags& bags, std::size_t begin, std::size_t end, float* out) {
  const std::size_t dim = dim_of<kDim>(table);
  std::fill(out, out + dim, begin == end ? 0.0f : -std::numeric_limits<float>::infinity());
  for (std::size_t v = begin; v < end; ++v) {
    const std::int32_t value = bags.values[v];
    if (outside(value, table.vocabulary)) return false;
    const auto row = static_cast<std::size_t>(value);
    const T* RANKINE_RESTRICT from = table.cells + row * dim;
    const float a = table.scale ? table.scale[row] : 1.0f;
    const float b = table.bias ? table.bias[row] : 0.0f;
    for (std::size_t d = 0; d < dim; ++d) out[d] = std::max(out[d], cell(from[d], a, b));
  }
  return true;
}

// Adds up values[begin:end]; false at a value outside the vocabulary.
template <std::size_t kDim, bool kWeighted, class T>
RANKINE_INLINE bool pool(const Table<T>& table, const Bags& bags, std::size_t begin, std::size_t end, float* out) {
  const std::size_t dim = dim_of<kDim>(table);
  std::fill(out, out + dim, 0.0f);
  for (std::size_t v = begin; v < end; ++v) {
    const std::int32_t value = bags.values[v];
    if (outside(value, table.vocabulary)) return false;
    add_row<kDim, kWeighted>(table, static_cast<std::size_t>(value), kWeighted ? bags.weights[v] : 1.0f, out);
  }
  if (bags.pooling == Pooling::kMean && end - begin > 1) {
    const float divisor = static_cast<float>(end - begin);
    for (std::size_t d = 0; d < dim; ++d) out[d] /= divisor;
  }
  return true;
}

// Where bag i begins and ends; false where the index or the offsets are out of range or order.
RANKINE_INLINE bool bounds_of(const Bags& bags, std::int32_t i, std::size_t& first, std::size_t& last) {
  if (outside(i, bags.bags)) return false;
  const std::int32_t begin = bags.offsets[i];
  const std::int32_t end = bags.offsets[i + 1];
  if (begin < 0 || end < begin || static_cast<std::size_t>(end) > bags.count) return false;
  first = static_cast<std::size_t>(begin);
  last = static_cast<std::size_t>(end);
  return true;
}

template <std::size_t kDim, class T>
RANKINE_INLINE bool pool_any(const Table<T>& table, const Bags& bags, std::size_t first, std::size_t last, float* out) {
  if (bags.pooling == Pooling::kMax) return pool_max<kDim>(table, bags, first, last, out);
  return bags.weights ? pool<kDim, true>(table, bags, first, last, out)
                      : pool<kDim, false>(table, bags, first, last, out);
}

template <std::size_t kDim, class T>
RANKINE_INLINE std::int64_t bag(const Table<T>& table, const Bags& bags, const Target& target) {
  for (std::size_t r = 0; r < target.rows; ++r) {
    std::size_t first = 0;
    std::size_t last = 0;
    float* out = target.cells + r * target.width + target.column;
    if (!bounds_of(bags, target.index[r], first, last)) return static_cast<std::int64_t>(r);
    if (!pool_any<kDim>(table, bags, first, last, out)) return static_cast<std::int64_t>(r);
  }
  return -1;
}

template <std::size_t kDim, class T>
RANKINE_INLINE bool write_sequence(const Table<T>& table, const Bags& bags, std::size_t first, std::size_t last,
                                   std::size_t length, float* out) {
  const std::size_t dim = dim_of<kDim>(table);
  if (last - first > length) return false;
  for (std::size_t v = first; v < last; ++v) {
    const std::int32_t value = bags.values[v];
    if (outside(value, table.vocabulary)) return false;
    float* row = out + (v - first) * dim;
    if (bags.weights) {
      std::fill(row, row + dim, 0.0f);
      add_row<kDim, true>(table, static_cast<std::size_t>(value), bags.weights[v], row);
    } else {
      write_row<kDim>(table, static_cast<std::size_t>(value), row);
    }
  }
  std::fill(out + (last - first) * dim, out + length * dim, 0.0f);
  out[length * dim] = static_cast<float>(last - first);
  return true;
}

template <std::size_t kDim, class T>
RANKINE_INLINE std::int64_t sequence(const Table<T>& table, const Bags& bags, std::size_t length,
                                     const Target& target) {
  const std::size_t width = length * dim_of<kDim>(table) + 1;
  std::int32_t written = -1;
  for (std::size_t r = 0; r < target.rows; ++r) {
    const std::int32_t i = target.index[r];
    float* out = target.cells + r * target.width + target.column;
    // Rows of one request follow each other and share its history: copy what the row before has.
    if (r > 0 && i == written) {
      std::copy(out - target.width, out - target.width + width, out);
      continue;
    }
    std::size_t first = 0;
    std::size_t last = 0;
    if (!bounds_of(bags, i, first, last)) return static_cast<std::int64_t>(r);
    if (!write_sequence<kDim>(table, bags, first, last, length, out)) return static_cast<std::int64_t>(r);
    written = i;
  }
  return -1;
}

template <class T>
RANKINE_INLINE std::int64_t one_of_width(const Table<T>& table, const std::int32_t* values, std::size_t count,
                                         const Target& target) {
  switch (table.dim) {
    case 16: return one<16>(table, values, count, target);
    case 32: return one<32>(table, values, count, target);
    case 64: return one<64>(table, values, count, target);
    default: return one<0>(table, values, count, target);
  }
}

template <class T>
RANKINE_INLINE std::int64_t bag_of_width(const Table<T>& table, const Bags& bags, const Target& target) {
  switch (table.dim) {
    case 16: return bag<16>(table, bags, target);
    case 32: return bag<32>(table, bags, target);
    case 64: return bag<64>(table, bags, target);
    default: return bag<0>(table, bags, target);
  }
}

template <class T>
RANKINE_INLINE std::int64_t sequence_of_width(const Table<T>& table, const Bags& bags, std::size_t length,
                                              const Target& target) {
  switch (table.dim) {
    case 16: return sequence<16>(table, bags, length, target);
    case 32: return sequence<32>(table, bags, length, target);
    case 64: return sequence<64>(table, bags, length, target);
    default: return sequence<0>(table, bags, length, target);
  }
}

// Clones must be plain functions: GCC does not clone templates.
RANKINE_CLONES std::int64_t run_one(const Table<float>& t, const std::int32_t* v, std::size_t n, const Target& to) {
  return one_of_width(t, v, n, to);
}
RANKINE_CLONES std::int64_t run_one(const Table<Half>& t, const std::int32_t* v, std::size_t n, const Target& to) {
  return one_of_width(t, v, n, to);
}
RANKINE_CLONES std::int64_t run_one(const Table<std::uint8_t>& t, const std::int32_t* v, std::size_t n,
                                    const Target& to) {
  return one_of_width(t, v, n, to);
}
RANKINE_CLONES std::int64_t run_bag(const Table<float>& t, const Bags& b, const Target& to) {
  return bag_of_width(t, b, to);
}
RANKINE_CLONES std::int64_t run_bag(const Table<Half>& t, const Bags& b, const Target& to) {
  return bag_of_width(t, b, to);
}
RANKINE_CLONES std::int64_t run_bag(const Table<std::uint8_t>& t, const Bags& b, const Target& to) {
  return bag_of_width(t, b, to);
}
RANKINE_CLONES std::int64_t run_sequence(const Table<float>& t, const Bags& b, std::size_t n, const Target& to) {
  return sequence_of_width(t, b, n, to);
}
RANKINE_CLONES std::int64_t run_sequence(const Table<Half>& t, const Bags& b, std::size_t n, const Target& to) {
  return sequence_of_width(t, b, n, to);
}
RANKINE_CLONES std::int64_t run_sequence(const Table<std::uint8_t>& t, const Bags& b, std::size_t n,
                                         const Target& to) {
  return sequence_of_width(t, b, n, to);
}

}  // namespace

template <class T>
std::int64_t lookup_one(const Table<T>& table, const std::int32_t* values, std::size_t count, const Target& target) {
  return run_one(table, values, count, target);
}

template <class T>
std::int64_t lookup_bag(const Table<T>& table, const Bags& bags, const Target& target) {
  return run_bag(table, bags, target);
}

template <class T>
std::int64_t lookup_sequence(const Table<T>& table, const Bags& bags, std::size_t length, const Target& target) {
  return run_sequence(table, bags, length, target);
}

std::int64_t gather_dense(const Table<float>& values, const Target& target) {
  for (std::size_t r = 0; r < target.rows; ++r) {
    const std::int32_t i = target.index[r];
    if (outside(i, values.vocabulary)) return static_cast<std::int64_t>(r);
    write_row<0>(values, static_cast<std::size_t>(i), target.cells + r * target.width + target.column);
  }
  return -1;
}

template std::int64_t lookup_one(const Table<float>&, const std::int32_t*, std::size_t, const Target&);
template std::int64_t lookup_one(const Table<Half>&, const std::int32_t*, std::size_t, const Target&);
template std::int64_t lookup_one(const Table<std::uint8_t>&, const std::int32_t*, std::size_t, const Target&);
template std::int64_t lookup_bag(const Table<float>&, const Bags&, const Target&);
template std::int64_t lookup_bag(const Table<Half>&, const Bags&, const Target&);
template std::int64_t lookup_bag(const Table<std::uint8_t>&, const Bags&, const Target&);
template std::int64_t lookup_sequence(const Table<float>&, const Bags&, std::size_t, const Target&);
template std::int64_t lookup_sequence(const Table<Half>&, const Bags&, std::size_t, const Target&);
template std::int64_t lookup_sequence(const Table<std::uint8_t>&, const Bags&, std::size_t, const Target&);

}  // namespace rankine
