// AVX-512 with VNNI.  Compiled with those flags where the target is x86-64, else to nothing.
#include "kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512VNNI__)
#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "../multiversion.h"
#include "format.h"

namespace rankine::fused {
namespace {

#include "elementwise.inc"
#include "linear.inc"

// GCC 12 copies accumulators around the intrinsic in loops; an instruction in place does not suffer from it.
RANKINE_INLINE void multiply_add(__m512i& sum, __m512i codes, __m512i weights) {
#if defined(__GNUC__) && !defined(__clang__)
  asm("vpdpbusd %[weights], %[codes], %[sum]" : [sum] "+v"(sum) : [codes] "v"(codes), [weights] "v"(weights));
#else
  sum = _mm512_dpbusd_epi32(sum, codes, weights);
#endif
}

struct Avx512 {
  static constexpr std::size_t kVectors = 4;
  // As many accumulators as the 32 registers hold beside the weights and one broadcast.
  template <std::size_t kV>
  static constexpr std::size_t kMostRows = kV == 4 ? 6 : kV == 3 ? 8 : 12;
  static constexpr std::size_t kMostSums = 12 * kPanel;

  template <std::size_t kRows, std::size_t kV>
  static void block_float32(const float* in, std::size_t stride, const float* panel, std::size_t panel_columns,
                            std::size_t width, float* sums) {
    __m512 held[kRows][kV];
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t v = 0; v < kV; ++v) held[r][v] = _mm512_setzero_ps();
    for (std::size_t k = 0; k < width; ++k, panel += panel_columns) {
      __m512 weights[kV];
      for (std::size_t v = 0; v < kV; ++v) weights[v] = _mm512_loadu_ps(panel + v * kLanes);
      for (std::size_t r = 0; r < kRows; ++r) {
        const __m512 value = _mm512_set1_ps(in[r * stride + k]);
        for (std::size_t v = 0; v < kV; ++v) held[r][v] = _mm512_fmadd_ps(value, weights[v], held[r][v]);
      }
    }
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t v = 0; v < kV; ++v) _mm512_store_ps(sums + r * kPanel + v * kLanes, held[r][v]);
  }

  template <std::size_t kRows, std::size_t kV>
  static void block_int8(const std::uint8_t* in, std::size_t stride, const std::int8_t* panel,
                         std::size_t panel_columns, std::size_t depth, std::int32_t* sums) {
    __m512i held[kRows][kV];
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t v = 0; v < kV; ++v) held[r][v] = _mm512_setzero_si512();
    for (std::size_t k = 0; k < depth; ++k, panel += panel_columns * 4) {
      __m512i weights[kV];
      for (std::size_t v = 0; v < kV; ++v) weights[v] = _mm512_loadu_si512(panel + v * 64);
      for (std::size_t r = 0; r < kRows; ++r) {
        std::int32_t four;
        std::memcpy(&four, in + r * stride + k * 4, sizeof four);
        const __m512i codes = _mm512_set1_epi32(four);
        for (std::size_t v = 0; v < kV; ++v) multiply_add(held[r][v], codes, weights[v]);
      }
    }
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t v = 0; v < kV; ++v) _mm512_store_si512(sums + r * kPanel + v * kLanes, held[r][v]);
  }

  // Column by column of sixteen, so that what belongs to a column stays in registers.
  template <bool kInteger>
  static void finish(const Epilogue& e, std::size_t row, std::size_t rows, std::size_t column, std::size_t vectors,
                     std::size_t left, const void* sums) {
    const __m512 zeros = _mm512_setzero_ps();
    const __m512 magic = _mm512_set1_ps(12582912.0f);
    const __m512 lowest = _mm512_set1_ps(-e.zero);
    const __m512 highest = _mm512_set1_ps(255.0f - e.zero);
    const __m512 zero = _mm512_set1_ps(e.zero);
    for (std::size_t v = 0; v < vectors; ++v) {
      const std::size_t n = column + v * kLanes;
      const std::size_t count = left - v * kLanes;
      const __mmask16 mask = count >= kLanes ? 0xFFFF : static_cast<__mmask16>((1u << count) - 1);
      const __m512i correction = kInteger ? _mm512_loadu_si512(e.correction + n) : _mm512_setzero_si512();
      const __m512 scale = kInteger ? _mm512_loadu_ps(e.scale + n) : zeros;
      const __m512 bias = e.bias ? _mm512_loadu_ps(e.bias + n) : zeros;
      const __m512 slope = e.slope ? _mm512_loadu_ps(e.slope + n) : zeros;
      const __m512 quant = e.codes ? _mm512_loadu_ps(e.quant + n) : zeros;
      for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t at = row + r;
        const std::size_t from = r * kPanel + v * kLanes;
        __m512 value;
        if constexpr (kInteger) {
          const __m512i sum = _mm512_load_si512(static_cast<const std::int32_t*>(sums) + from);
          value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sum, correction)), scale);
        } else {
          value = _mm512_load_ps(static_cast<const float*>(sums) + from);
        }
        if (e.bias) value = _mm512_add_ps(value, bias);
        if (e.addend) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, e.addend + at * e.addend_stride + n));
        if (e.relu) value = _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(value, zeros, _CMP_LT_OQ), zeros);
        if (e.slope) value = _mm512_mask_mul_ps(value, _mm512_cmp_ps_mask(value, zeros, _CMP_LT_OQ), value, slope);
        if (e.factor) value = _mm512_mul_ps(value, _mm512_maskz_loadu_ps(mask, e.factor + at * e.factor_stride + n));
        if (e.added) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, e.added + at * e.added_stride + n));
        if (e.out) _mm512_mask_storeu_ps(e.out + at * e.out_stride + n, mask, value);
        if (e.codes) {
          __m512 steps = _mm512_mul_ps(value, quant);
          steps = _mm512_min_ps(_mm512_max_ps(steps, lowest), highest);  // NaN becomes the lowest code
          steps = _mm512_add_ps(_mm512_sub_ps(_mm512_add_ps(steps, magic), magic), zero);
          _mm512_mask_cvtepi32_storeu_epi8(e.codes + at * e.codes_stride + n, mask, _mm512_cvttps_epi32(steps));
        }
      }
    }
  }
};

}  // namespace

const Kernels* avx512_kernels() {
  static const Kernels kernels{"avx512",   linear<Avx512, false>, linear<Avx512, true>, matmul<Avx512>,
                               quantize,   dequantize,            unary,                binary,
                               reduce,     dot,                   softmax};
  return &kernels;
}

}  // namespace rankine::fused
#else
namespace rankine::fused {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace rankine::fused
#endif
