// Plain C++: what runs everywhere.
#include <bit>
#include <cmath>

#include "../multiversion.h"
#include "format.h"
#include "kernels.h"

namespace rankine::fused {
namespace {

#include "elementwise.inc"
#include "linear.inc"

struct Portable {
  static constexpr std::size_t kVectors = 1;
  template <std::size_t kV>
  static constexpr std::size_t kMostRows = 4;
  static constexpr std::size_t kMostSums = 4 * kPanel;

  template <std::size_t kRows, std::size_t kV>
  static void block_float32(const float* in, std::size_t stride, const float* panel, std::size_t panel_columns,
                            std::size_t width, float* sums) {
    float held[kRows][kLanes] = {};
    for (std::size_t k = 0; k < width; ++k)
      for (std::size_t r = 0; r < kRows; ++r)
        for (std::size_t n = 0; n < kLanes; ++n) held[r][n] += in[r * stride + k] * panel[k * panel_columns + n];
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t n = 0; n < kLanes; ++n) sums[r * kPanel + n] = held[r][n];
  }

  template <std::size_t kRows, std::size_t kV>
  static void block_int8(const std::uint8_t* in, std::size_t stride, const std::int8_t* panel,
                         std::size_t panel_columns, std::size_t depth, std::int32_t* sums) {
    std::int32_t held[kRows][kLanes] = {};
    for (std::size_t k = 0; k < depth; ++k)
      for (std::size_t r = 0; r < kRows; ++r)
        for (std::size_t n = 0; n < kLanes; ++n) {
          const std::uint8_t* codes = in + r * stride + k * 4;
          const std::int8_t* weights = panel + (k * panel_columns + n) * 4;
          held[r][n] += codes[0] * weights[0] + codes[1] * weights[1] + codes[2] * weights[2] + codes[3] * weights[3];
        }
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t n = 0; n < kLanes; ++n) sums[r * kPanel + n] = held[r][n];
  }

  template <bool kInteger>
  static void finish(const Epilogue& epilogue, std::size_t row, std::size_t rows, std::size_t column, std::size_t,
                     std::size_t left, const void* sums) {
    finish_plain<kInteger>(epilogue, row, rows, column, left < kLanes ? left : kLanes, sums);
  }
};

}  // namespace

const Kernels& portable_kernels() {
  static const Kernels kernels{"portable", linear<Portable, false>, linear<Portable, true>, matmul<Portable>,
                               quantize,   dequantize,              unary,                  binary,
                               reduce,     dot,                     softmax};
  return kernels;
}

}  // namespace rankine::fused
