// AVX-512 with VNNI.  Compiled with those flags where the target is x86-64, else to nothing.
#include "kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512VNNI__)
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
#include "epilogue_avx512.inc"

// GCC 12 copies accumulators around the intrinsic in loops; an instruction in place does not suffer from it.
RANKINE_INLINE void multiply_add(__m512i& sum, __m512i codes, __m512i weights) {
#if defined(__GNUC__) && !defined(__clang__)
  asm("vpdpbusd %[weights], %[codes], %[sum]" : [sum] "+v"(sum) : [codes] "v"(codes), [weights] "v"(weights));
#else
  sum = _mm512_dpbusd_epi32(sum, codes, weights);
#endif
}

struct Avx512 : Avx512Epilogue {
  static constexpr std::size_t kVectors = 4;
  // As many accumulators as the 32 registers hold beside the weights and one broadcast.
  template <std::size_t kV>
  static constexpr std::size_t kMostRows = kV == 4 ? 6 : kV == 3 ? 8 : 12;

  template <bool kInteger, std::size_t kRows, std::size_t kV>
  static void block(const LinearCall& call, std::size_t row, std::size_t column, const std::byte* panel,
                    std::size_t panel_columns) {
    const std::size_t left = call.columns - column;
    prefetch_operands<kRows, kV>(call.epilogue, row, column);
    if constexpr (kInteger) {
      __m512i held[kRows][kV];
      integers(static_cast<const std::uint8_t*>(call.in) + row * call.in_stride, call.in_stride, panel, panel_columns,
               (call.width + 3) / 4, call.epilogue.correction + column, held);
      if (call.epilogue.code_scale != nullptr) return finish_codes(call.epilogue, row, column, left, held);
      if constexpr (kRows == kMostRows<kV>)
        if (finish_held(call.epilogue, row, column, left, held)) return;
      alignas(64) std::int32_t sums[kRows][kV][kLanes];
      RANKINE_UNROLL for (std::size_t r = 0; r < kRows; ++r)
        RANKINE_UNROLL for (std::size_t v = 0; v < kV; ++v) _mm512_store_si512(sums[r][v], held[r][v]);
      finish<kRows, kV>(call.epilogue, row, column, left, sums[0][0]);
    } else {
      __m512 held[kRows][kV];
      floats(static_cast<const float*>(call.in) + row * call.in_stride, call.in_stride,
             reinterpret_cast<const float*>(panel), panel_columns, call.width, held);
      alignas(64) float sums[kRows][kV][kLanes];
      RANKINE_UNROLL for (std::size_t r = 0; r < kRows; ++r)
        RANKINE_UNROLL for (std::size_t v = 0; v < kV; ++v) _mm512_store_ps(sums[r][v], held[r][v]);
      finish<kRows, kV>(call.epilogue, row, column, left, sums[0][0]);
    }
  }

  template <std::size_t kRows, std::size_t kV>
  RANKINE_INLINE static void floats(const float* in, std::size_t stride, const float* panel, std::size_t panel_columns,
                                    std::size_t width, __m512 (&held)[kRows][kV]) {
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
  }

  template <std::size_t kRows, std::size_t kV>
  RANKINE_INLINE static void integers(const std::uint8_t* in, std::size_t stride, const std::byte* panel,
                                      std::size_t panel_columns, std::size_t depth, const std::int32_t* correction,
                                      __m512i (&held)[kRows][kV]) {
    RANKINE_UNROLL for (std::size_t v = 0; v < kV; ++v) {
      const __m512i first = _mm512_loadu_si512(correction + v * kLanes);
      RANKINE_UNROLL for (std::size_t r = 0; r < kRows; ++r) held[r][v] = first;
    }
    for (std::size_t k = 0; k < depth; ++k, panel += panel_columns * 4) {
      __m512i weights[kV];
      RANKINE_UNROLL for (std::size_t v = 0; v < kV; ++v) weights[v] = _mm512_loadu_si512(panel + v * 64);
      RANKINE_UNROLL for (std::size_t r = 0; r < kRows; ++r) {
        std::int32_t four;
        std::memcpy(&four, in + r * stride + k * 4, sizeof four);
        const __m512i codes = _mm512_set1_epi32(four);
        RANKINE_UNROLL for (std::size_t v = 0; v < kV; ++v) multiply_add(held[r][v], codes, weights[v]);
      }
    }
  }

  // Sixteen cells of a stored row from `i` on.
  template <Cells kKind>
  RANKINE_INLINE static __m512 stored_at(const StoredRow& row, std::size_t i, __mmask16 mask) {
    __m512 value;
    if constexpr (kKind == Cells::kFloat32) {
      value = _mm512_maskz_loadu_ps(mask, static_cast<const float*>(row.cells) + i);
    } else if constexpr (kKind == Cells::kFloat16) {
      value = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, static_cast<const std::uint16_t*>(row.cells) + i));
    } else {
      const __m128i cells = _mm_maskz_loadu_epi8(mask, static_cast<const std::uint8_t*>(row.cells) + i);
      value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(cells)), _mm512_set1_ps(row.scale));
      value = _mm512_add_ps(value, _mm512_set1_ps(row.bias));
    }
    return row.added == nullptr ? value : _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, row.added + i));
  }

  template <class Use>
  RANKINE_INLINE static void each_sixteen(const StoredRow& row, Use use) {
    const auto with = [&]<Cells kKind>() RANKINE_INLINE_LAMBDA {
      std::size_t i = 0;
      for (; i + kLanes <= row.columns; i += kLanes) use(i, 0xFFFF, stored_at<kKind>(row, i, 0xFFFF));
      if (i < row.columns) use(i, mask_of(row.columns - i), stored_at<kKind>(row, i, mask_of(row.columns - i)));
    };
    if (row.kind == Cells::kFloat32) return with.template operator()<Cells::kFloat32>();
    if (row.kind == Cells::kFloat16) return with.template operator()<Cells::kFloat16>();
    with.template operator()<Cells::kUint8>();
  }

  static void stored(const StoredRow& row, float* out) {
    each_sixteen(row, [=](std::size_t i, __mmask16 mask, __m512 value) RANKINE_INLINE_LAMBDA {
      _mm512_mask_storeu_ps(out + i, mask, value);
    });
  }

  static void stored_codes(const StoredRow& row, float quant, float zero, float lowest, std::uint8_t* codes) {
    const __m512 factor = _mm512_set1_ps(quant);
    const __m512 low = _mm512_set1_ps(lowest - zero);
    const __m512 high = _mm512_set1_ps(255.0f - zero);
    const __m512 rounding = _mm512_set1_ps(kRounding + zero);
    each_sixteen(row, [=](std::size_t i, __mmask16 mask, __m512 value) RANKINE_INLINE_LAMBDA {
      store_codes(codes + i, mask, _mm512_mul_ps(value, factor), low, high, rounding);
    });
  }

  // Four sums at a time, as one would wait for itself.
  static float dot(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride, std::size_t count) {
    if (a_stride != 1 || b_stride != 1 || count < 4 * kLanes) return fused::dot(a, a_stride, b, b_stride, count);
    __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    std::size_t i = 0;
    for (; i + 4 * kLanes <= count; i += 4 * kLanes)
      RANKINE_UNROLL for (std::size_t v = 0; v < 4; ++v)
        sums[v] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + v * kLanes), _mm512_loadu_ps(b + i + v * kLanes), sums[v]);
    for (; i < count; i += kLanes) {
      const __mmask16 mask = mask_of(count - i);
      sums[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, a + i), _mm512_maskz_loadu_ps(mask, b + i), sums[0]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
  }
};

}  // namespace

const Kernels* avx512_kernels() {
  static const Kernels kernels{"avx512", true, 24, 704 << 10, linear<Avx512, false>, linear<Avx512, true>, matmul<Avx512>,
                               quantize, dequantize, Avx512::stored, Avx512::stored_codes, unary, binary, reduce,
                               Avx512::dot, softmax};
  return &kernels;
}

}  // namespace rankine::fused
#else
namespace rankine::fused {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace rankine::fused
#endif
