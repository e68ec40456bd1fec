// The loops of the lookups, for rows of any form; instantiated in lookup.cpp and lookup_composed.cpp.
#pragma once

#include <algorithm>
#include <limits>

#include "lookup.h"

namespace rankine {

// How many rows ahead the table's row is fetched: a large table lies in DRAM, about 100 ns away.
constexpr std::size_t kAhead = 16;

// What is done with the values of a row.  (Without weights a weight is one, which changes no value.)
struct Write {
  float* RANKINE_RESTRICT out;
  RANKINE_INLINE void operator()(std::size_t d, float value) const { out[d] = value; }
};
struct WriteWeighted {
  float* RANKINE_RESTRICT out;
  float weight;
  RANKINE_INLINE void operator()(std::size_t d, float value) const { out[d] = weight * value; }
};
struct AddWeighted {
  float* RANKINE_RESTRICT out;
  float weight;
  RANKINE_INLINE void operator()(std::size_t d, float value) const { out[d] += weight * value; }
};
struct Raise {
  float* RANKINE_RESTRICT out;
  RANKINE_INLINE void operator()(std::size_t d, float value) const { out[d] = std::max(out[d], value); }
};

// kDim is the width of the table where it is a common one, so that the loops unroll; 0: read it from the table.
template <std::size_t kDim, class Rows, class Visit>
RANKINE_INLINE bool visit_value(const Rows& rows, std::int32_t value, Visit visit) {
  return !outside(value, rows.count) && visit_row<kDim>(rows, static_cast<std::size_t>(value), visit);
}

template <class Rows>
RANKINE_INLINE void fetch_ahead(const Rows& rows, const std::int32_t* values, std::size_t count, const Target& target,
                                std::size_t r) {
  if (r + kAhead >= target.rows) return;
  const std::int32_t i = target.index[r + kAhead];
  if (outside(i, count)) return;
  const std::int32_t value = values[i];
  if (!outside(value, rows.count)) prefetch_row(rows, static_cast<std::size_t>(value));
}

template <std::size_t kDim, class Rows>
RANKINE_INLINE std::int64_t one(const Rows& rows, const std::int32_t* values, std::size_t count, const Target& target) {
  for (std::size_t r = 0; r < target.rows; ++r) {
    fetch_ahead(rows, values, count, target, r);
    const std::int32_t i = target.index[r];
    if (outside(i, count)) return static_cast<std::int64_t>(r);
    const Write write{target.cells + r * target.width + target.column};
    if (!visit_value<kDim>(rows, values[i], write)) return static_cast<std::int64_t>(r);
  }
  return -1;
}

RANKINE_INLINE float weight_of(const Bags& bags, std::size_t v) { return bags.weights ? bags.weights[v] : 1.0f; }

// The largest of each column of values[begin:end]; false at a value outside the vocabulary.
template <std::size_t kDim, class Rows>
RANKINE_INLINE bool pool_max(const Rows& rows, const Bags& bags, std::size_t begin, std::size_t end, float* out) {
  std::fill(out, out + dim_of<kDim>(rows), begin == end ? 0.0f : -std::numeric_limits<float>::infinity());
  for (std::size_t v = begin; v < end; ++v)
    if (!visit_value<kDim>(rows, bags.values[v], Raise{out})) return false;
  return true;
}

// Adds up values[begin:end]; false at a value outside the vocabulary.
template <std::size_t kDim, class Rows>
RANKINE_INLINE bool pool_sum(const Rows& rows, const Bags& bags, std::size_t begin, std::size_t end, float* out) {
  const std::size_t dim = dim_of<kDim>(rows);
  std::fill(out, out + dim, 0.0f);
  for (std::size_t v = begin; v < end; ++v)
    if (!visit_value<kDim>(rows, bags.values[v], AddWeighted{out, weight_of(bags, v)})) return false;
  if (bags.pooling == Pooling::kMean && end - begin > 1) {
    const float divisor = static_cast<float>(end - begin);
    for (std::size_t d = 0; d < dim; ++d) out[d] /= divisor;
  }
  return true;
}

template <std::size_t kDim, class Rows>
RANKINE_INLINE bool pool(const Rows& rows, const Bags& bags, std::size_t begin, std::size_t end, float* out) {
  return bags.pooling == Pooling::kMax ? pool_max<kDim>(rows, bags, begin, end, out)
                                       : pool_sum<kDim>(rows, bags, begin, end, out);
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

template <std::size_t kDim, class Rows>
RANKINE_INLINE std::int64_t bag(const Rows& rows, const Bags& bags, const Target& target) {
  for (std::size_t r = 0; r < target.rows; ++r) {
    std::size_t first = 0;
    std::size_t last = 0;
    float* out = target.cells + r * target.width + target.column;
    if (!bounds_of(bags, target.index[r], first, last)) return static_cast<std::int64_t>(r);
    if constexpr (kDim != 0) {
      float pooled[kDim];  // stays in registers, where adding up in `out` would wait for its own stores
      if (!pool<kDim>(rows, bags, first, last, pooled)) return static_cast<std::int64_t>(r);
      std::copy(pooled, pooled + kDim, out);
    } else {
      if (!pool<kDim>(rows, bags, first, last, out)) return static_cast<std::int64_t>(r);
    }
  }
  return -1;
}

template <std::size_t kDim, class Rows>
RANKINE_INLINE bool write_sequence(const Rows& rows, const Bags& bags, std::size_t first, std::size_t last,
                                   std::size_t length, float* out) {
  const std::size_t dim = dim_of<kDim>(rows);
  if (last - first > length) return false;
  for (std::size_t v = first; v < last; ++v) {
    const WriteWeighted write{out + (v - first) * dim, weight_of(bags, v)};
    if (!visit_value<kDim>(rows, bags.values[v], write)) return false;
  }
  std::fill(out + (last - first) * dim, out + length * dim, 0.0f);
  out[length * dim] = static_cast<float>(last - first);
  return true;
}

template <std::size_t kDim, class Rows>
RANKINE_INLINE std::int64_t sequence(const Rows& rows, const Bags& bags, std::size_t length, const Target& target) {
  const std::size_t width = length * dim_of<kDim>(rows) + 1;
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
    if (!write_sequence<kDim>(rows, bags, first, last, length, out)) return static_cast<std::int64_t>(r);
    written = i;
  }
  return -1;
}

// Calls use with the width where it is a common one, else with 0.  (8: a student's; 17: sixteen and a first-order
// weight.)
template <class Rows, class Use>
RANKINE_INLINE std::int64_t of_width(const Rows& rows, Use&& use) {
  if constexpr (Rows::kWidest >= 8)
    if (rows.dim == 8) return use(std::integral_constant<std::size_t, 8>{});
  if constexpr (Rows::kWidest >= 16)
    if (rows.dim == 16) return use(std::integral_constant<std::size_t, 16>{});
  if constexpr (Rows::kWidest >= 17)
    if (rows.dim == 17) return use(std::integral_constant<std::size_t, 17>{});
  if constexpr (Rows::kWidest >= 32)
    if (rows.dim == 32) return use(std::integral_constant<std::size_t, 32>{});
  if constexpr (Rows::kWidest >= 64)
    if (rows.dim == 64) return use(std::integral_constant<std::size_t, 64>{});
  return use(std::integral_constant<std::size_t, 0>{});
}

// Clones must be plain functions: GCC does not clone templates.
#define RANKINE_DEFINE_LOOKUPS(Rows)                                                                                 \
  RANKINE_CLONES std::int64_t lookup_one(const Rows& rows, const std::int32_t* values, std::size_t count,            \
                                         const Target& target) {                                                     \
    return of_width(rows, [&](auto dim) RANKINE_INLINE_LAMBDA { return one<dim>(rows, values, count, target); });    \
  }                                                                                                                  \
  RANKINE_CLONES std::int64_t lookup_bag(const Rows& rows, const Bags& bags, const Target& target) {                 \
    return of_width(rows, [&](auto dim) RANKINE_INLINE_LAMBDA { return bag<dim>(rows, bags, target); });             \
  }                                                                                                                  \
  RANKINE_CLONES std::int64_t lookup_sequence(const Rows& rows, const Bags& bags, std::size_t length,                \
                                              const Target& target) {                                                \
    return of_width(rows, [&](auto dim) RANKINE_INLINE_LAMBDA { return sequence<dim>(rows, bags, length, target); }); \
  }

}  // namespace rankine
