// The file that the native engine runs: one dense graph as a list of tile operations, written by
// rankine.compilation.fused.program.  Little endian; every record is read in place from the mapped file.
//
// Values live in buffers of a tile's arena.  The row axis is implicit and outermost: buffer b has `stride` elements a
// row, and lies `place` bytes a row into the arena, so that its address for tiles of T rows is arena + T * place.
// Buffers that are not in use at the same time may share places.
//
// What an operation does with its operands x, dimensions d, strides s0, s1, s2 (within a row, in elements), constants c
// and numbers f is said at its code.
#pragma once

#include <cstdint>

namespace rankine::fused {

constexpr char kMagic[8] = {'R', 'K', 'N', 'P', 'R', 'O', 'G', '1'};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kNone = 0xFFFFFFFF;      // no operand; no constant
constexpr std::uint32_t kConstant = 0xFFFFFFFE;  // the operand is a constant: `offset` counts floats of the constants
constexpr std::uint32_t kConstantUnit = 64;      // c[i] counts blocks of so many bytes
constexpr std::uint32_t kPanel = 64;             // columns of a panel of packed weights
constexpr std::uint32_t kLanes = 16;             // panels and arrays of one number a column are padded to these
constexpr std::uint32_t kSlack = 256;            // bytes that may be read past an arena's, and past the constants' end

enum class Type : std::uint32_t { kFloat32 = 0, kUint8 = 1 };

struct Operand {
  std::uint32_t buffer;
  std::uint32_t offset;
};

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t buffers;
  std::uint32_t inputs;
  std::uint32_t operations;
  std::uint32_t tasks;  // columns of the output
  Operand out;
  std::uint32_t zero;
  std::uint64_t constants_offset;
  std::uint64_t constants_bytes;
  std::uint64_t reserved;
};
static_assert(sizeof(Header) == 64);

struct BufferRecord {
  Type type;
  std::uint32_t stride;
  std::uint32_t place;
  std::uint32_t zero;
};

// What the host fills before the operations of a tile run.
struct InputRecord {
  std::uint32_t buffer;
  std::uint32_t offset;
  std::uint32_t width;
  Type type;
};

struct OperationRecord {
  std::uint16_t code;
  std::uint16_t kind;
  std::uint32_t groups;
  Operand x[6];
  std::uint32_t d[4];
  std::uint32_t s0[4];
  std::uint32_t s1[4];
  std::uint32_t s2[4];
  std::uint32_t c[6];
  float f[4];
};
static_assert(sizeof(OperationRecord) == 160);

enum class Code : std::uint16_t {
  // x0 float32 and x1 uint8 results (either may be missing), x2 input, x3 addend, x4 factor, x5 added; d0 = K inputs,
  // d1 = N columns; `groups` sub-rows a row, one after the other.  kind: Activation.  In this order:
  //   v = sum_k x2[k] W[k, n]                     c0: W, packed
  //   INT8: v = (v + c2[n]) * c5[n]               c2: int32, minus zero point times the sums of the columns; c5: scales
  //   v = v + c1[n] + x3[n]; v = activation(v)    c4: PReLU's slopes
  //   v = v * x4[n] + x5[n]
  //   x0[n] = v; x1[n] = clamp(round(v * c3[n]) + f0, 0, 255)
  // Rounding is half to even of v * c3[n] + f0, on every instruction set: where that lies right between two codes and f0
  // is odd, ONNX takes the other one.
  // W is packed in panels of 64 columns, the last of as many as are left, in sixteens.  FP32: a panel is K rows of its
  // columns.  INT8: ceil(K / 4) groups of four consecutive k of each of its columns.  The rest is zero.
  kLinearFloat32 = 1,
  kLinearInt8 = 2,
  kUnary = 3,   // x0 = kind(x2): d, s0, s1; f0 and f1 by kind
  kBinary = 4,  // x0 = kind(x2, x3): d, s0, s1, s2
  kWhere = 5,   // x0 = x2 != 0 ? x3 : x4: d0 elements, contiguous
  kTake = 6,    // x0 (d0, d1, d2) = x2 (d0, d3, d2) at c0, int32 (d1,), of the middle axis; contiguous
  kReduce = 7,  // x0 (d0, d2) by s0[0], s0[1]; x2 (d0, d1, d2) by s1: over the middle axis
  kSoftmax = 8, // x0 (d0, d1, d2) by s0, x2 by s1: over the middle axis
  kMatmul = 9,  // x0 (d0, d1, d3) by s0; x2 (d0, d1, d2) by s1; x3 (d0, d2, d3) by s2
  kQuantize = 10,    // x1 = clamp(round(x2 * c3[n]) + f0, 0, 255): d0 columns
  kDequantize = 11,  // x0 = (x2 - f0) * f1: d0 columns
  kCopyUint8 = 12,   // x1 = x2: d, s0, s1
  kDot = 13,    // x0 (d0,) by s0[0]; x2 (d0, d1) by s1, x3 by s2: sum of products over the last axis
};

enum class Activation : std::uint16_t { kNone = 0, kRelu = 1, kPrelu = 2 };

enum class Unary : std::uint16_t {
  kRelu, kSigmoid, kTanh, kExp, kLog, kSqrt, kNegate, kAbs, kErf, kReciprocal, kNot, kClip, kLeakyRelu, kGelu, kAffine,
  kSquare, kIdentity, kSoftplus, kElu, kCount,
};

enum class Binary : std::uint16_t {
  kAdd, kSubtract, kMultiply, kDivide, kMax, kMin, kPower, kLess, kLessEqual, kGreater, kGreaterEqual, kEqual, kAnd,
  kOr, kPrelu, kCount,
};

enum class Reduction : std::uint16_t { kSum, kMean, kMax, kMin, kSumSquare, kL2, kProduct, kCount };

}  // namespace rankine::fused
