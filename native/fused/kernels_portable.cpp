// Plain C++: what runs everywhere.
#include <bit>
#include <cmath>
#include <type_traits>

#include "../half.h"
#include "../multiversion.h"
#include "format.h"
#include "kernels.h"

namespace rankine::fused {
namespace {

#include "elementwise.inc"
#include "fetch.inc"
#include "linear.inc"

struct Portable {
  static constexpr auto* dot = &fused::dot;
  static constexpr std::size_t kVectors = 1;
  template <std::size_t kV>
  static constexpr std::size_t kMostRows = 4;

  template <bool kInteger, std::size_t kRows, std::size_t kV>
  static void block(const LinearCall& call, std::size_t row, std::size_t column, const std::byte* panel,
                    std::size_t panel_columns) {
    using Sum = std::conditional_t<kInteger, std::int32_t, float>;
    Sum sums[kRows][kPanel];
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t n = 0; n < kLanes; ++n) {
        if constexpr (kInteger)
          sums[r][n] = call.epilogue.correction[column + n];
        else
          sums[r][n] = 0.0f;
      }
    if constexpr (kInteger)
      integers<kRows>(static_cast<const std::uint8_t*>(call.in) + row * call.in_stride, call.in_stride,
                      reinterpret_cast<const std::int8_t*>(panel), panel_columns, (call.width + 3) / 4, sums);
    else
      floats<kRows>(static_cast<const float*>(call.in) + row * call.in_stride, call.in_stride,
                    reinterpret_cast<const float*>(panel), panel_columns, call.width, sums);
    const std::size_t left = call.columns - column;
    finish_plain<kInteger>(call.epilogue, row, kRows, column, left < kLanes ? left : kLanes, sums);
  }

  template <std::size_t kRows>
  static void floats(const float* in, std::size_t stride, const float* panel, std::size_t panel_columns,
                     std::size_t width, float (&sums)[kRows][kPanel]) {
    for (std::size_t k = 0; k < width; ++k)
      for (std::size_t r = 0; r < kRows; ++r)
        for (std::size_t n = 0; n < kLanes; ++n) sums[r][n] += in[r * stride + k] * panel[k * panel_columns + n];
  }

  template <std::size_t kRows>
  static void integers(const std::uint8_t* in, std::size_t stride, const std::int8_t* panel, std::size_t panel_columns,
                       std::size_t depth, std::int32_t (&sums)[kRows][kPanel]) {
    for (std::size_t k = 0; k < depth; ++k)
      for (std::size_t r = 0; r < kRows; ++r)
        for (std::size_t n = 0; n < kLanes; ++n) {
          const std::uint8_t* codes = in + r * stride + k * 4;
          const std::int8_t* weights = panel + (k * panel_columns + n) * 4;
          const std::int32_t four =
              codes[0] * weights[0] + codes[1] * weights[1] + codes[2] * weights[2] + codes[3] * weights[3];
          // Unsigned: what does not fit wraps, as the vector instructions do; for signed ones it is undefined.
          sums[r][n] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[r][n]) + static_cast<std::uint32_t>(four));
        }
  }
};

}  // namespace

const Kernels& portable_kernels() {
  static const Kernels kernels{"portable", true, 24, 704 << 10, linear<Portable, false>, linear<Portable, true>,
                               matmul<Portable>, quantize, dequantize, stored, stored_codes, unary, binary, reduce,
                               dot, softmax};
  return kernels;
}

}  // namespace rankine::fused
