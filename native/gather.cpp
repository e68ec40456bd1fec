#include "gather.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "multiversion.h"

namespace rankine {
namespace {

// A stored row lies anywhere in a catalog of gigabytes, so it is fetched ahead: of wide rows few, which fill the cache.
constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kNarrowBytes = 256;

RANKINE_INLINE std::size_t rows_ahead(std::size_t bytes) { return bytes <= kNarrowBytes ? 8 : 2; }

template <class T>
RANKINE_INLINE void fetch(const T* from, std::size_t width) {
  const char* line = reinterpret_cast<const char*>(from);
  for (const char* end = line + width * sizeof(T); line < end; line += kLineBytes) RANKINE_PREFETCH(line);
}

template <class T, class S, class Value>
RANKINE_INLINE void write(const T* RANKINE_RESTRICT from, const float* RANKINE_RESTRICT more, std::size_t width,
                          float* RANKINE_RESTRICT out, Value value) {
  if (more == nullptr)
    for (std::size_t d = 0; d < width; ++d) out[d] = value(from[d]);
  else
    for (std::size_t d = 0; d < width; ++d) out[d] = value(from[d]) + more[d];
}

// Writes slice after slice: place(r) is where the floats of row r go, done(r) is called when they are there.
// kWidth is the width where it is one of the narrow ones, so that the loops unroll; else 0.
template <std::size_t kWidth, class T, class S, class Place, class Done>
RANKINE_INLINE std::int64_t gather(const PlainRows<T, S>& rows, std::size_t start, std::size_t any_width,
                                   const Addend& addend, const std::int32_t* index, std::size_t count, Place place,
                                   Done done) {
  const std::size_t width = kWidth != 0 ? kWidth : any_width;
  const std::size_t ahead = rows_ahead(width * sizeof(T));
  for (std::size_t r = 0; r < count; ++r) {
    if (r + ahead < count && !outside(index[r + ahead], rows.count))
      fetch(rows.cells + static_cast<std::size_t>(index[r + ahead]) * rows.dim + start, width);
    const std::int32_t at = index[r];
    if (outside(at, rows.count)) return static_cast<std::int64_t>(r);
    const float* more = nullptr;
    if (addend.cells != nullptr) {
      const std::int32_t of = addend.index[r];
      if (outside(of, addend.count)) return static_cast<std::int64_t>(r);
      more = addend.cells + static_cast<std::size_t>(of) * addend.dim + addend.start;
    }
    const std::size_t id = static_cast<std::size_t>(at);
    const T* from = rows.cells + id * rows.dim + start;
    if constexpr (std::is_same_v<S, Unscaled>) {
      write<T, S>(from, more, width, place(r), [](T cell) RANKINE_INLINE_LAMBDA { return to_float(cell); });
    } else {
      const float scale = rows.scale[id];
      const float bias = rows.bias[id];
      write<T, S>(from, more, width, place(r),
                  [=](T cell) RANKINE_INLINE_LAMBDA { return static_cast<float>(cell) * scale + bias; });
    }
    done(r);
  }
  return -1;
}

template <std::size_t kWidth, class Rows>
RANKINE_INLINE std::int64_t to_floats(const Rows& rows, std::size_t start, std::size_t width, const Addend& addend,
                                      const Target& target) {
  return gather<kWidth>(
      rows, start, width, addend, target.index, target.rows,
      [&](std::size_t r) RANKINE_INLINE_LAMBDA { return target.cells + r * target.width + target.column; },
      [](std::size_t) RANKINE_INLINE_LAMBDA {});
}

RANKINE_INLINE void round_row(const float* RANKINE_RESTRICT row, std::size_t width, const RoundedTarget& target,
                              std::uint8_t* RANKINE_RESTRICT out) {
  const float floor = target.floor;
  const float step = target.step;
  const float zero = target.zero;
  for (std::size_t d = 0; d < width; ++d) {
    // Written so that NaN becomes the floor, as a comparison with it is false: bytes have no NaN.
    const float value = row[d] > floor ? row[d] : floor;
    const float code = std::nearbyint(value / step) + zero;
    out[d] = static_cast<std::uint8_t>(std::min(std::max(code, 0.0f), 255.0f));
  }
}

}  // namespace

// Clones must be plain functions: GCC does not clone templates.
#define RANKINE_DEFINE_GATHER(Rows)                                                                               \
  RANKINE_CLONES std::int64_t gather_slice(const Rows& rows, std::size_t start, std::size_t width,                \
                                           const Addend& addend, const Target& target) {                          \
    switch (width) {                                                                                              \
      case 1: return to_floats<1>(rows, start, width, addend, target);                                            \
      case 4: return to_floats<4>(rows, start, width, addend, target);                                            \
      case 8: return to_floats<8>(rows, start, width, addend, target);                                            \
      case 16: return to_floats<16>(rows, start, width, addend, target);                                          \
      default: return to_floats<0>(rows, start, width, addend, target);                                           \
    }                                                                                                             \
  }                                                                                                               \
  RANKINE_CLONES std::int64_t gather_rounded(const Rows& rows, std::size_t start, std::size_t width,              \
                                             const Addend& addend, const RoundedTarget& target, float* row) {     \
    return gather<0>(                                                                                             \
        rows, start, width, addend, target.index, target.rows,                                                    \
        [=](std::size_t) RANKINE_INLINE_LAMBDA { return row; },                                                   \
        [&](std::size_t r) RANKINE_INLINE_LAMBDA {                                                                \
          round_row(row, width, target, target.cells + r * target.width + target.column);                         \
        });                                                                                                       \
  }

RANKINE_DEFINE_GATHER(FloatRows)
RANKINE_DEFINE_GATHER(HalfRows)
RANKINE_DEFINE_GATHER(Int8Rows)

}  // namespace rankine
