// What the operations of a program are made of, for each instruction set.  All versions compute the same: INT8 layers
// to the bit, sums of floats up to their order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rankine::fused {

// Half to even by adding 1.5 * 2^23 once the value lies within a code's reach: the code is then in the lowest byte, the
// same on every instruction set.  NaN becomes the lowest code.
constexpr float kRounding = 12582912.0f;

// What is done with the sums of a linear layer.  Arrays of one number a column are padded to 16 columns.
struct Epilogue {
  const std::int32_t* correction;  // what the sums begin with
  const float* scale;
  const float* bias;
  const float* slope;  // PReLU's
  const float* quant;
  // Where INT8 gives nothing but codes: clamp(round(sum * code_scale[n] + code_bias[n])).  Else nullptr.
  const float* code_scale;
  const float* code_bias;
  bool relu;
  float zero;
  // Row r begins at pointer + r * stride elements; nullptr: none.
  float* out;
  std::size_t out_stride;
  std::uint8_t* codes;
  std::size_t codes_stride;
  const float* addend;
  std::size_t addend_stride;
  const float* factor;
  std::size_t factor_stride;
  const float* added;
  std::size_t added_stride;
};

// Rows of memory that are needed soon, of `lines` cache lines each.  A layer fetches some after each block, so that they
// come while it computes: all at once would wait for memory, as a core has some twenty lines under way at most.
struct Ahead {
  const char* const* rows;
  std::size_t count;
  std::size_t lines;
  std::size_t row;  // the next one
  std::size_t line;
};

// rows x width times the packed weights of width x columns (format.h); in: rows begin in_stride elements apart.
struct LinearCall {
  const void* in;
  std::size_t in_stride;
  const void* weights;
  const float* narrow;  // float32: the weights as (columns, width) where there are few columns, else nullptr
  std::size_t rows;
  std::size_t width;
  std::size_t columns;
  Ahead* ahead;  // or nullptr
  Epilogue epilogue;
};

// out (m, n) = a (m, k) b (k, n), by strides.  scratch: for 64 columns of b and rows of a, (64 * k + 16 * k) floats.
struct MatmulCall {
  const float* a;
  const float* b;
  float* out;
  std::size_t m, k, n;
  std::size_t a_row, a_column, b_row, b_column, out_row, out_column;
  float* scratch;
};

enum class Cells { kNone, kFloat32, kFloat16, kUint8, kInt32 };

// Columns of one stored row: value[i] = cells[i] (kUint8: times scale plus bias) + added[i], if that is given.
struct StoredRow {
  Cells kind;
  const void* cells;
  float scale;
  float bias;
  const float* added;
  std::size_t columns;
};

struct Kernels {
  const char* name;
  bool fetches_ahead;       // layers ask for the rows that the next tile gathers
  std::size_t block_rows;   // a tile of a multiple of them is whole blocks
  std::size_t arena_bytes;  // of a tile: what the second cache holds beside the weights of a layer
  void (*linear_float32)(const LinearCall&);
  void (*linear_int8)(const LinearCall&);
  void (*matmul)(const MatmulCall&);
  // codes[r, i] = clamp(round(values[r, i] * quant[i]) + zero, 0, 255)
  void (*quantize)(const float* values, std::size_t stride, const float* quant, float zero, std::size_t rows,
                   std::size_t columns, std::uint8_t* codes, std::size_t codes_stride);
  void (*dequantize)(const std::uint8_t* codes, std::size_t stride, float zero, float step, std::size_t rows,
                     std::size_t columns, float* values, std::size_t values_stride);
  void (*stored)(const StoredRow& row, float* out);
  // codes[i] = clamp(round(value[i] * quant) + zero, lowest, 255)
  void (*stored_codes)(const StoredRow& row, float quant, float zero, float lowest, std::uint8_t* codes);
  // out[i] = kind(a[i * stride]); the strides are 0 or more.
  void (*unary)(int kind, const float* a, std::size_t a_stride, float f0, float f1, float* out, std::size_t out_stride,
                std::size_t count);
  void (*binary)(int kind, const float* a, std::size_t a_stride, const float* b, std::size_t b_stride, float* out,
                 std::size_t out_stride, std::size_t count);
  // Over `count` elements a stride apart.
  float (*reduce)(int kind, const float* a, std::size_t stride, std::size_t count);
  float (*dot)(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride, std::size_t count);
  // Of contiguous elements, in place.
  void (*softmax)(float* values, std::size_t count, bool logarithm);
};

// What AMX's `ldtilecfg` reads: eight tiles of sixteen rows of 64 bytes.
struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1;
  std::uint8_t unused[15] = {};
  std::uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

const Kernels& portable_kernels();
// nullptr where the program was built for another architecture.
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* amx_kernels();

// By name: "amx", "avx512", "avx2", "portable", or the best that this processor has for an empty one; nullptr where it has not.
const Kernels* kernels_named(const char* name);

}  // namespace rankine::fused
