// AVX2 and FMA.  Compiled with those flags where the target is x86-64, else to nothing.
#include "kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "../half.h"
#include "../multiversion.h"
#include "format.h"

namespace rankine::fused {
namespace {

#include "elementwise.inc"
#include "fetch.inc"
#include "linear.inc"

struct Avx2 {
  static constexpr auto* dot = &fused::dot;
  static constexpr std::size_t kVectors = 1;  // sixteen columns are two registers
  template <std::size_t kV>
  static constexpr std::size_t kMostRows = 6;

  template <bool kInteger, std::size_t kRows, std::size_t kV>
  static void block(const LinearCall& call, std::size_t row, std::size_t column, const std::byte* panel,
                    std::size_t panel_columns) {
    alignas(32) std::int32_t sums[kRows * kPanel];
    if constexpr (kInteger)
      integers<kRows>(static_cast<const std::uint8_t*>(call.in) + row * call.in_stride, call.in_stride,
                      reinterpret_cast<const std::int8_t*>(panel), panel_columns, (call.width + 3) / 4,
                      call.epilogue.correction + column, sums);
    else
      floats<kRows>(static_cast<const float*>(call.in) + row * call.in_stride, call.in_stride,
                    reinterpret_cast<const float*>(panel), panel_columns, call.width, reinterpret_cast<float*>(sums));
    const std::size_t left = call.columns - column;
    finish_plain<kInteger>(call.epilogue, row, kRows, column, left < kLanes ? left : kLanes, sums);
  }

  template <std::size_t kRows>
  static void floats(const float* in, std::size_t stride, const float* panel, std::size_t panel_columns,
                     std::size_t width, float* sums) {
    __m256 held[kRows][2];
    for (std::size_t r = 0; r < kRows; ++r) held[r][0] = held[r][1] = _mm256_setzero_ps();
    for (std::size_t k = 0; k < width; ++k, panel += panel_columns) {
      const __m256 low = _mm256_loadu_ps(panel);
      const __m256 high = _mm256_loadu_ps(panel + 8);
      for (std::size_t r = 0; r < kRows; ++r) {
        const __m256 value = _mm256_broadcast_ss(in + r * stride + k);
        held[r][0] = _mm256_fmadd_ps(value, low, held[r][0]);
        held[r][1] = _mm256_fmadd_ps(value, high, held[r][1]);
      }
    }
    for (std::size_t r = 0; r < kRows; ++r) {
      _mm256_storeu_ps(sums + r * kPanel, held[r][0]);
      _mm256_storeu_ps(sums + r * kPanel + 8, held[r][1]);
    }
  }

  // vpmaddubsw would saturate: even and odd bytes are widened to sixteen bits instead, whose products are exact.
  template <std::size_t kRows>
  static void integers(const std::uint8_t* in, std::size_t stride, const std::int8_t* panel, std::size_t panel_columns,
                       std::size_t depth, const std::int32_t* correction, std::int32_t* sums) {
    const __m256i low_bytes = _mm256_set1_epi32(0x00FF00FF);
    __m256i held[kRows][2];
    for (std::size_t half = 0; half < 2; ++half)
      for (std::size_t r = 0; r < kRows; ++r)
        held[r][half] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(correction + half * 8));
    for (std::size_t k = 0; k < depth; ++k, panel += panel_columns * 4) {
      for (std::size_t half = 0; half < 2; ++half) {
        const __m256i weights = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + half * 32));
        const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8);
        const __m256i odd = _mm256_srai_epi16(weights, 8);
        for (std::size_t r = 0; r < kRows; ++r) {
          std::int32_t four;
          std::memcpy(&four, in + r * stride + k * 4, sizeof four);
          const __m256i codes = _mm256_set1_epi32(four);
          const __m256i products =
              _mm256_add_epi32(_mm256_madd_epi16(_mm256_and_si256(codes, low_bytes), even),
                               _mm256_madd_epi16(_mm256_srli_epi16(codes, 8), odd));
          held[r][half] = _mm256_add_epi32(held[r][half], products);
        }
      }
    }
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t half = 0; half < 2; ++half)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + r * kPanel + half * 8), held[r][half]);
  }
};

}  // namespace

const Kernels* avx2_kernels() {
  static const Kernels kernels{"avx2", true, 24, 704 << 10, linear<Avx2, false>, linear<Avx2, true>, matmul<Avx2>, quantize,
                               dequantize, stored, stored_codes, unary, binary, reduce, dot, softmax};
  return &kernels;
}

}  // namespace rankine::fused
#else
namespace rankine::fused {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace rankine::fused
#endif
