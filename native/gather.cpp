#include "gather.h"

#include <type_traits>

#include "multiversion.h"

namespace rankine {
namespace {

// A stored row lies anywhere in a catalog of gigabytes.
constexpr std::size_t kRowsAhead = 2;
constexpr std::size_t kLineBytes = 64;

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

template <class T, class S>
RANKINE_INLINE std::int64_t gather(const PlainRows<T, S>& rows, std::size_t start, std::size_t width,
                                   const Addend& addend, const Target& target) {
  for (std::size_t r = 0; r < target.rows; ++r) {
    if (r + kRowsAhead < target.rows && !outside(target.index[r + kRowsAhead], rows.count))
      fetch(rows.cells + static_cast<std::size_t>(target.index[r + kRowsAhead]) * rows.dim + start, width);
    const std::int32_t at = target.index[r];
    if (outside(at, rows.count)) return static_cast<std::int64_t>(r);
    const float* more = nullptr;
    if (addend.cells != nullptr) {
      const std::int32_t of = addend.index[r];
      if (outside(of, addend.count)) return static_cast<std::int64_t>(r);
      more = addend.cells + static_cast<std::size_t>(of) * addend.dim + addend.start;
    }
    const std::size_t id = static_cast<std::size_t>(at);
    const T* from = rows.cells + id * rows.dim + start;
    float* out = target.cells + r * target.width + target.column;
    if constexpr (std::is_same_v<S, Unscaled>) {
      write<T, S>(from, more, width, out, [](T cell) RANKINE_INLINE_LAMBDA { return to_float(cell); });
    } else {
      const float scale = rows.scale[id];
      const float bias = rows.bias[id];
      write<T, S>(from, more, width, out,
                  [=](T cell) RANKINE_INLINE_LAMBDA { return static_cast<float>(cell) * scale + bias; });
    }
  }
  return -1;
}

}  // namespace

// Clones must be plain functions: GCC does not clone templates.
#define RANKINE_DEFINE_GATHER(Rows)                                                                         \
  RANKINE_CLONES std::int64_t gather_slice(const Rows& rows, std::size_t start, std::size_t width,          \
                                           const Addend& addend, const Target& target) {                    \
    return gather(rows, start, width, addend, target);                                                      \
  }

RANKINE_DEFINE_GATHER(FloatRows)
RANKINE_DEFINE_GATHER(HalfRows)
RANKINE_DEFINE_GATHER(Int8Rows)

}  // namespace rankine
