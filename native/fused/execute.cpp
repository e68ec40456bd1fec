#include "execute.h"

#include <algorithm>
#include <cstring>

namespace rankine::fused {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kLeastTileRows = 24;
constexpr std::size_t kMostTileRows = 480;

// What one operation needs of where it runs.
struct Frame {
  const Kernels& kernels;
  const Tile& tile;
  std::size_t rows;
  Ahead* ahead;

  template <class T>
  T* at(const Slot& slot) const {
    return slot.given ? tile.at<T>(slot, rows) : nullptr;
  }
};

const float* numbers(const std::byte* constant) { return reinterpret_cast<const float*>(constant); }

// Elements from sub-row to sub-row; a constant is the same for all.
std::size_t sub_stride(const Slot& slot, std::size_t groups, std::size_t width, std::size_t size) {
  if (slot.constant != nullptr) return 0;
  return groups > 1 ? width : slot.stride / size;
}

void linear(const Operation& op, const Frame& frame) {
  const bool integer = op.code == Code::kLinearInt8;
  const std::size_t width = op.d[0], columns = op.d[1];
  LinearCall call{};
  call.in = frame.at<void>(op.x[2]);
  call.in_stride = sub_stride(op.x[2], op.groups, width, integer ? 1 : 4);
  call.weights = op.c[0];
  call.narrow = op.narrow.empty() ? nullptr : op.narrow.data();
  call.rows = frame.rows * op.groups;
  call.width = width;
  call.columns = columns;
  call.ahead = frame.ahead;
  Epilogue& epilogue = call.epilogue;
  epilogue.correction = reinterpret_cast<const std::int32_t*>(op.c[2]);
  epilogue.scale = numbers(op.c[5]);
  epilogue.bias = numbers(op.c[1]);
  const auto activation = static_cast<Activation>(op.kind);
  epilogue.relu = activation == Activation::kRelu;
  epilogue.slope = activation == Activation::kPrelu ? numbers(op.c[4]) : nullptr;
  epilogue.quant = numbers(op.c[3]);
  epilogue.zero = op.f[0];
  if (!op.code_scale.empty()) {
    epilogue.code_scale = op.code_scale.data();
    epilogue.code_bias = op.code_bias.data();
  }
  epilogue.out = frame.at<float>(op.x[0]);
  epilogue.out_stride = sub_stride(op.x[0], op.groups, columns, 4);
  epilogue.codes = frame.at<std::uint8_t>(op.x[1]);
  epilogue.codes_stride = sub_stride(op.x[1], op.groups, columns, 1);
  epilogue.addend = frame.at<float>(op.x[3]);
  epilogue.addend_stride = sub_stride(op.x[3], op.groups, columns, 4);
  epilogue.factor = frame.at<float>(op.x[4]);
  epilogue.factor_stride = sub_stride(op.x[4], op.groups, columns, 4);
  epilogue.added = frame.at<float>(op.x[5]);
  epilogue.added_stride = sub_stride(op.x[5], op.groups, columns, 4);
  (integer ? frame.kernels.linear_int8 : frame.kernels.linear_float32)(call);
}

// Calls body(offsets of out, a and b; count) for every run of the innermost dimension.
template <class Body>
void for_runs(const std::vector<Dimension>& loop, std::size_t rows, Body body) {
  constexpr std::size_t kMost = 5;
  std::size_t size[kMost], index[kMost] = {};
  const std::size_t depth = loop.size();
  for (std::size_t i = 0; i < depth; ++i) {
    size[i] = loop[i].size * (loop[i].rows ? rows : 1);
    if (size[i] == 0) return;
  }
  std::size_t at[3] = {0, 0, 0};
  for (;;) {
    body(at, loop[depth - 1], size[depth - 1]);
    std::size_t i = depth - 1;
    for (;;) {
      if (i == 0) return;
      --i;
      for (int o = 0; o < 3; ++o) at[o] += loop[i].stride[o];
      if (++index[i] < size[i]) break;
      for (int o = 0; o < 3; ++o) at[o] -= loop[i].stride[o] * size[i];
      index[i] = 0;
    }
  }
}

void unary(const Operation& op, const Frame& frame) {
  float* out = frame.at<float>(op.x[0]);
  const float* a = frame.at<float>(op.x[2]);
  for_runs(op.loop, frame.rows, [&](const std::size_t* at, const Dimension& inner, std::size_t count) {
    frame.kernels.unary(op.kind, a + at[1], inner.stride[1], op.f[0], op.f[1], out + at[0], inner.stride[0], count);
  });
}

void binary(const Operation& op, const Frame& frame) {
  float* out = frame.at<float>(op.x[0]);
  const float* a = frame.at<float>(op.x[2]);
  const float* b = frame.at<float>(op.x[3]);
  for_runs(op.loop, frame.rows, [&](const std::size_t* at, const Dimension& inner, std::size_t count) {
    frame.kernels.binary(op.kind, a + at[1], inner.stride[1], b + at[2], inner.stride[2], out + at[0], inner.stride[0],
                         count);
  });
}

void copy_codes(const Operation& op, const Frame& frame) {
  std::uint8_t* out = frame.at<std::uint8_t>(op.x[1]);
  const std::uint8_t* in = frame.at<std::uint8_t>(op.x[2]);
  for_runs(op.loop, frame.rows, [&](const std::size_t* at, const Dimension& inner, std::size_t count) {
    if (inner.stride[0] == 1 && inner.stride[1] == 1)
      std::memmove(out + at[0], in + at[1], count);
    else
      for (std::size_t i = 0; i < count; ++i) out[at[0] + i * inner.stride[0]] = in[at[1] + i * inner.stride[1]];
  });
}

// Row r of an operand, with its stride of bytes.
template <class T>
T* row_of(T* first, const Slot& slot, std::size_t row) {
  return first + row * (slot.stride / sizeof(T));
}

void where(const Operation& op, const Frame& frame) {
  float* const out = frame.at<float>(op.x[0]);
  const float* const sides[3] = {frame.at<float>(op.x[2]), frame.at<float>(op.x[3]), frame.at<float>(op.x[4])};
  for (std::size_t r = 0; r < frame.rows; ++r) {
    float* to = row_of(out, op.x[0], r);
    const float* condition = row_of(sides[0], op.x[2], r);
    const float* yes = row_of(sides[1], op.x[3], r);
    const float* no = row_of(sides[2], op.x[4], r);
    for (std::size_t i = 0; i < op.d[0]; ++i) to[i] = condition[i] != 0.0f ? yes[i] : no[i];
  }
}

void take(const Operation& op, const Frame& frame) {
  const std::size_t outer = op.d[0], count = op.d[1], inner = op.d[2], axis = op.d[3];
  const std::int32_t* const index = op.indices.data();
  float* const out = frame.at<float>(op.x[0]);
  const float* const in = frame.at<float>(op.x[2]);
  for (std::size_t r = 0; r < frame.rows; ++r) {
    float* to = row_of(out, op.x[0], r);
    const float* from = row_of(in, op.x[2], r);
    for (std::size_t o = 0; o < outer; ++o, from += axis * inner)
      for (std::size_t j = 0; j < count; ++j, to += inner)
        std::copy_n(from + static_cast<std::size_t>(index[j]) * inner, inner, to);
  }
}

// Over the middle axis where its elements lie apart: whole runs of the last one at a time.
void reduce_runs(const Operation& op, const Frame& frame, const float* from, float* to) {
  const std::size_t count = op.d[1], inner = op.d[2], step = op.s1[1], in_step = op.s1[2], out_step = op.s0[1];
  const auto kind = static_cast<Reduction>(op.kind);
  Binary join = Binary::kAdd;
  if (kind == Reduction::kMax) join = Binary::kMax;
  if (kind == Reduction::kMin) join = Binary::kMin;
  if (kind == Reduction::kProduct) join = Binary::kMultiply;
  frame.kernels.unary(static_cast<int>(Unary::kIdentity), from, in_step, 0, 0, to, out_step, inner);
  for (std::size_t j = 1; j < count; ++j)
    frame.kernels.binary(static_cast<int>(join), to, out_step, from + j * step, in_step, to, out_step, inner);
  if (kind != Reduction::kMean) return;
  const float divisor = static_cast<float>(count);
  frame.kernels.binary(static_cast<int>(Binary::kDivide), to, out_step, &divisor, 0, to, out_step, inner);
}

void reduce(const Operation& op, const Frame& frame) {
  const auto kind = static_cast<Reduction>(op.kind);
  const bool runs = op.d[2] > 1 && kind != Reduction::kSumSquare && kind != Reduction::kL2;
  float* const out = frame.at<float>(op.x[0]);
  const float* const in = frame.at<float>(op.x[2]);
  for (std::size_t r = 0; r < frame.rows; ++r)
    for (std::size_t o = 0; o < op.d[0]; ++o) {
      float* to = row_of(out, op.x[0], r) + o * op.s0[0];
      const float* from = row_of(in, op.x[2], r) + o * op.s1[0];
      if (runs)
        reduce_runs(op, frame, from, to);
      else
        for (std::size_t l = 0; l < op.d[2]; ++l)
          to[l * op.s0[1]] = frame.kernels.reduce(op.kind, from + l * op.s1[2], op.s1[1], op.d[1]);
    }
}

void softmax(const Operation& op, const Frame& frame) {
  const std::size_t count = op.d[1];
  float* const out = frame.at<float>(op.x[0]);
  const float* const in = frame.at<float>(op.x[2]);
  float* const values = frame.tile.scratch();
  for (std::size_t r = 0; r < frame.rows; ++r)
    for (std::size_t o = 0; o < op.d[0]; ++o)
      for (std::size_t l = 0; l < op.d[2]; ++l) {
        const float* from = row_of(in, op.x[2], r) + o * op.s1[0] + l * op.s1[2];
        float* to = row_of(out, op.x[0], r) + o * op.s0[0] + l * op.s0[2];
        for (std::size_t i = 0; i < count; ++i) values[i] = from[i * op.s1[1]];
        frame.kernels.softmax(values, count, op.kind == 1);
        for (std::size_t i = 0; i < count; ++i) to[i * op.s0[1]] = values[i];
      }
}

void matmul(const Operation& op, const Frame& frame) {
  float* const out = frame.at<float>(op.x[0]);
  const float* const a = frame.at<float>(op.x[2]);
  const float* const b = frame.at<float>(op.x[3]);
  for (std::size_t r = 0; r < frame.rows; ++r)
    for (std::size_t i = 0; i < op.d[0]; ++i)
      frame.kernels.matmul({row_of(a, op.x[2], r) + i * op.s1[0], row_of(b, op.x[3], r) + i * op.s2[0],
                            row_of(out, op.x[0], r) + i * op.s0[0], op.d[1], op.d[2], op.d[3], op.s1[1], op.s1[2],
                            op.s2[1], op.s2[2], op.s0[1], op.s0[2], frame.tile.scratch()});
}

void dot(const Operation& op, const Frame& frame) {
  float* const out = frame.at<float>(op.x[0]);
  const float* const a = frame.at<float>(op.x[2]);
  const float* const b = frame.at<float>(op.x[3]);
  for (std::size_t r = 0; r < frame.rows; ++r)
    for (std::size_t i = 0; i < op.d[0]; ++i)
      row_of(out, op.x[0], r)[i * op.s0[0]] =
          frame.kernels.dot(row_of(a, op.x[2], r) + i * op.s1[0], op.s1[1], row_of(b, op.x[3], r) + i * op.s2[0],
                            op.s2[1], op.d[1]);
}

void run(const Operation& op, const Frame& frame) {
  switch (op.code) {
    case Code::kLinearFloat32:
    case Code::kLinearInt8: return linear(op, frame);
    case Code::kUnary: return unary(op, frame);
    case Code::kBinary: return binary(op, frame);
    case Code::kWhere: return where(op, frame);
    case Code::kTake: return take(op, frame);
    case Code::kReduce: return reduce(op, frame);
    case Code::kSoftmax: return softmax(op, frame);
    case Code::kMatmul: return matmul(op, frame);
    case Code::kQuantize:
      return frame.kernels.quantize(frame.at<float>(op.x[2]), op.x[2].stride / 4, numbers(op.c[3]), op.f[0], frame.rows,
                                    op.d[0], frame.at<std::uint8_t>(op.x[1]), op.x[1].stride);
    case Code::kDequantize:
      return frame.kernels.dequantize(frame.at<std::uint8_t>(op.x[2]), op.x[2].stride, op.f[0], op.f[1], frame.rows,
                                      op.d[0], frame.at<float>(op.x[0]), op.x[0].stride / 4);
    case Code::kCopyUint8: return copy_codes(op, frame);
    case Code::kDot: return dot(op, frame);
  }
}

}  // namespace

Tile::Tile(const Program& program, std::size_t capacity) : capacity_(capacity) {
  const std::size_t arena = program.row_bytes() * capacity + kSlack;
  const std::size_t bytes = arena + program.scratch() * sizeof(float) + 2 * kAlignment;
  memory_ = std::make_unique<std::byte[]>(bytes);
  void* aligned = memory_.get();
  std::size_t space = bytes;
  arena_ = static_cast<std::byte*>(std::align(kAlignment, arena, aligned, space));
  scratch_ = reinterpret_cast<float*>(arena_ + (arena + kAlignment - 1) / kAlignment * kAlignment);
}

std::size_t tile_rows(const Program& program, const Kernels& kernels, std::size_t gathered_bytes) {
  const std::size_t row = program.row_bytes() + (kernels.fetches_ahead ? 0 : gathered_bytes);
  const std::size_t fitting = kernels.arena_bytes / row / kernels.block_rows * kernels.block_rows;
  return std::clamp(fitting, kLeastTileRows, kMostTileRows);
}

void execute(const Program& program, const Kernels& kernels, const Tile& tile, std::size_t rows, Ahead* ahead,
             std::uint64_t* spent) {
  const Frame frame{kernels, tile, rows, ahead};
  if (spent == nullptr) {
    for (const Operation& op : program.operations()) run(op, frame);
    return;
  }
  Stopwatch watch;
  for (const Operation& op : program.operations()) {
    run(op, frame);
    *spent++ += watch.lap();
  }
}

}  // namespace rankine::fused
