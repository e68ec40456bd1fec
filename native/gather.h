// Slices of rows that were computed before, gathered by index; two of them may be added on the way.
#pragma once

#include <cstddef>
#include <cstdint>

#include "lookup.h"

namespace rankine {

// What is added to a row: added[index[r]][start:], rows of floats.  No rows: nothing is.
struct Addend {
  const float* cells;
  std::size_t count;
  std::size_t dim;
  std::size_t start;
  const std::int32_t* index;
};

// Rows of bytes to write, each value rounded as QuantizeLinear does: clamp(round(max(x, floor) / step) + zero), half to
// even.  Row r goes to cells[r * width + column].
struct RoundedTarget {
  const std::int32_t* index;
  std::size_t rows;
  std::uint8_t* cells;
  std::size_t width;
  std::size_t column;
  float floor;
  float step;
  float zero;
};

// out[r] = rows[target.index[r]][start:start + width] (+ addend) for every form of rows a catalog stores; the first
// position of a row whose index is out of range, else -1.
std::int64_t gather_slice(const FloatRows&, std::size_t start, std::size_t width, const Addend&, const Target&);
std::int64_t gather_slice(const HalfRows&, std::size_t start, std::size_t width, const Addend&, const Target&);
std::int64_t gather_slice(const Int8Rows&, std::size_t start, std::size_t width, const Addend&, const Target&);

// The same, rounded; `row` has room for width floats.
std::int64_t gather_rounded(const FloatRows&, std::size_t start, std::size_t width, const Addend&, const RoundedTarget&,
                            float* row);
std::int64_t gather_rounded(const HalfRows&, std::size_t start, std::size_t width, const Addend&, const RoundedTarget&,
                            float* row);
std::int64_t gather_rounded(const Int8Rows&, std::size_t start, std::size_t width, const Addend&, const RoundedTarget&,
                            float* row);

}  // namespace rankine
