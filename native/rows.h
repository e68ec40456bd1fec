// The forms of a table, and how one row of each becomes floats.
//
// visit_row(rows, id, visit) calls visit(d, value) once for every column d of row `id`, which the caller has checked
// against rows.count.  It is false where the row does not lie in its part, which only a table that was changed after it
// was checked can do: nothing outside the arrays is read, even if another process writes to a mapped file meanwhile.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <variant>

#include "half.h"
#include "multiversion.h"

namespace rankine {

RANKINE_INLINE bool outside(std::int32_t id, std::size_t limit) {
  // A negative id becomes a huge unsigned number: one comparison checks both ends.
  return static_cast<std::size_t>(static_cast<std::int64_t>(id)) >= limit;
}

RANKINE_INLINE float to_float(float value) { return value; }

// A byte with two values of four bits: the low four are of the first half of the row's columns, the high four of the
// second (of an odd number of columns, the last high four are not read).
struct Int4 {
  std::uint8_t bits;
};

struct Unscaled {};

// (count, dim) cells of type T.  For uint8 and Int4: value = q * scale[row] + bias[row], both of type S.
template <class T, class S>
struct PlainRows {
  static constexpr std::size_t kWidest = 64;  // the common widths up to this have loops of their own: see of_width
  const T* cells;
  const S* scale;
  const S* bias;
  std::size_t count;
  std::size_t dim;
};

using FloatRows = PlainRows<float, Unscaled>;
using HalfRows = PlainRows<Half, Unscaled>;
using Int8Rows = PlainRows<std::uint8_t, float>;
using Int8HalfRows = PlainRows<std::uint8_t, Half>;
using Int4Rows = PlainRows<Int4, float>;
using Int4HalfRows = PlainRows<Int4, Half>;

template <std::size_t kDim, class Rows>
RANKINE_INLINE std::size_t dim_of(const Rows& rows) {
  return kDim != 0 ? kDim : rows.dim;
}

// Calls body(d) for every d < turns; kTurns is turns where that is known, else 0.
template <std::size_t kTurns, class Body>
RANKINE_INLINE void each(std::size_t turns, Body body) {
  if constexpr (kTurns == 8 || kTurns == 16) {
    // GCC would unroll so few turns whole before it vectorizes, and then find no loop to vectorize.
    RANKINE_KEEP_LOOP for (std::size_t d = 0; d < kTurns; ++d) body(d);
  } else {
    for (std::size_t d = 0; d < turns; ++d) body(d);
  }
}

template <std::size_t kDim, class T, class S>
RANKINE_INLINE const T* cells_of(const PlainRows<T, S>& rows, std::size_t id) {
  const std::size_t dim = dim_of<kDim>(rows);
  return rows.cells + id * (std::is_same_v<T, Int4> ? (dim + 1) / 2 : dim);
}

template <std::size_t kDim, class T, class S, class Visit>
RANKINE_INLINE bool visit_row(const PlainRows<T, S>& rows, std::size_t id, Visit visit) {
  const std::size_t dim = dim_of<kDim>(rows);
  const T* RANKINE_RESTRICT from = cells_of<kDim>(rows, id);
  if constexpr (std::is_same_v<S, Unscaled>) {
    each<kDim>(dim, [&](std::size_t d) RANKINE_INLINE_LAMBDA { visit(d, to_float(from[d])); });
  } else {
    const float a = to_float(rows.scale[id]);
    const float b = to_float(rows.bias[id]);
    const auto value = [=](auto q) RANKINE_INLINE_LAMBDA { return static_cast<float>(q) * a + b; };
    if constexpr (std::is_same_v<T, Int4>) {
      const std::size_t half = (dim + 1) / 2;
      constexpr std::size_t kHalf = (kDim + 1) / 2;
      each<kHalf>(half, [&](std::size_t d) RANKINE_INLINE_LAMBDA { visit(d, value(from[d].bits & 15)); });
      each<kDim - kHalf>(dim - half, [&](std::size_t d) RANKINE_INLINE_LAMBDA {
        visit(half + d, value(from[d].bits >> 4));
      });
    } else {
      each<kDim>(dim, [&](std::size_t d) RANKINE_INLINE_LAMBDA { visit(d, value(from[d])); });
    }
  }
  return true;
}

template <class T, class S>
RANKINE_INLINE void prefetch_row(const PlainRows<T, S>& rows, std::size_t id) {
  RANKINE_PREFETCH(cells_of<0>(rows, id));
  if constexpr (!std::is_same_v<S, Unscaled>) {
    RANKINE_PREFETCH(rows.scale + id);
    RANKINE_PREFETCH(rows.bias + id);
  }
}

enum class Form { kFloat32, kFloat16, kInt8, kInt8Half, kInt4, kInt4Half };

// Plain rows of any form: what the parts of the tables below are.
struct AnyRows {
  Form form;
  const void* cells;
  const void* scale;
  const void* bias;
  std::size_t count;
  std::size_t dim;

  template <class Rows, class T, class S>
  RANKINE_INLINE Rows typed() const {
    return {static_cast<const T*>(cells), static_cast<const S*>(scale), static_cast<const S*>(bias), count, dim};
  }

  // Calls use with the rows as what they are.
  template <class Use>
  RANKINE_INLINE auto with(Use&& use) const {
    switch (form) {
      case Form::kFloat16: return use(typed<HalfRows, Half, Unscaled>());
      case Form::kInt8: return use(typed<Int8Rows, std::uint8_t, float>());
      case Form::kInt8Half: return use(typed<Int8HalfRows, std::uint8_t, Half>());
      case Form::kInt4: return use(typed<Int4Rows, Int4, float>());
      case Form::kInt4Half: return use(typed<Int4HalfRows, Int4, Half>());
      default: return use(typed<FloatRows, float, Unscaled>());
    }
  }
};

template <std::size_t kDim, class Visit>
RANKINE_INLINE bool visit_row(const AnyRows& rows, std::size_t id, Visit visit) {
  return rows.with([&](const auto& typed) RANKINE_INLINE_LAMBDA { return visit_row<kDim>(typed, id, visit); });
}

RANKINE_INLINE void prefetch_row(const AnyRows& rows, std::size_t id) {
  rows.with([&](const auto& typed) RANKINE_INLINE_LAMBDA { prefetch_row(typed, id); });
}

// Some rows lie in `hot`, the others in `cold`, both in the order of ids.  Bit id % 8 of bitmap[id / 8] says where;
// ranks[w] is the number of hot rows before row 64 * w, so that a popcount gives the position.
struct MixedRows {
  static constexpr std::size_t kWidest = 17;  // every loop holds all plain forms
  AnyRows hot;
  AnyRows cold;
  const std::uint8_t* bitmap;
  const std::int32_t* ranks;
  std::size_t count;
  std::size_t dim;
};

struct Place {
  const AnyRows& part;
  std::size_t position;
};

RANKINE_INLINE Place place_of(const MixedRows& rows, std::size_t id) {
  static_assert(std::endian::native == std::endian::little, "the bitmap is read in words");
  std::uint64_t word;
  std::memcpy(&word, rows.bitmap + id / 64 * 8, sizeof word);
  const std::uint64_t bit = std::uint64_t{1} << (id % 64);
  const std::size_t before =
      static_cast<std::size_t>(rows.ranks[id / 64]) + static_cast<std::size_t>(std::popcount(word & (bit - 1)));
  return word & bit ? Place{rows.hot, before} : Place{rows.cold, id - before};
}

template <std::size_t kDim, class Visit>
RANKINE_INLINE bool visit_row(const MixedRows& rows, std::size_t id, Visit visit) {
  const Place place = place_of(rows, id);
  return place.position < place.part.count && visit_row<kDim>(place.part, place.position, visit);
}

RANKINE_INLINE void prefetch_row(const MixedRows& rows, std::size_t id) {
  const Place place = place_of(rows, id);
  if (place.position < place.part.count) prefetch_row(place.part, place.position);
}

// Row `id` is quotient[id / m] times (or plus) remainder[id % m], with m = remainder.count.
struct QuotientRemainderRows {
  static constexpr std::size_t kWidest = 0;  // none: every loop holds all plain forms twice
  AnyRows quotient;
  AnyRows remainder;
  bool sum;
  float* scratch;  // (dim,), of one call
  std::size_t count;
  std::size_t dim;
};

template <std::size_t kDim, class Visit>
RANKINE_INLINE bool visit_row(const QuotientRemainderRows& rows, std::size_t id, Visit visit) {
  const auto buckets = static_cast<std::uint32_t>(rows.remainder.count);  // 32 bits divide in half the time
  const std::uint32_t quotient = static_cast<std::uint32_t>(id) / buckets;
  const std::uint32_t remainder = static_cast<std::uint32_t>(id) % buckets;
  float* RANKINE_RESTRICT left = rows.scratch;
  visit_row<kDim>(rows.quotient, quotient, [=](std::size_t d, float value) RANKINE_INLINE_LAMBDA { left[d] = value; });
  if (rows.sum)
    return visit_row<kDim>(rows.remainder, remainder, [&](std::size_t d, float value) RANKINE_INLINE_LAMBDA {
      visit(d, left[d] + value);
    });
  return visit_row<kDim>(rows.remainder, remainder, [&](std::size_t d, float value) RANKINE_INLINE_LAMBDA {
    visit(d, left[d] * value);
  });
}

RANKINE_INLINE void prefetch_row(const QuotientRemainderRows& rows, std::size_t id) {
  const auto buckets = static_cast<std::uint32_t>(rows.remainder.count);
  prefetch_row(rows.quotient, static_cast<std::uint32_t>(id) / buckets);
  prefetch_row(rows.remainder, static_cast<std::uint32_t>(id) % buckets);
}

// A table of any form.
using TableRows = std::variant<AnyRows, MixedRows, QuotientRemainderRows>;

}  // namespace rankine
