#include "programs.h"

#include <algorithm>
#include <cstdint>

#include "fused/execute.h"
#include "packed.h"
#include "random.h"

namespace rankine::tests {
namespace {

using namespace fused;

constexpr std::uint32_t kWidth = 12;  // of most inputs

// Sets some of four numbers.
void set(std::uint32_t (&field)[4], std::initializer_list<std::uint32_t> values) { std::copy(values.begin(), values.end(), field); }

// x0 (rows, columns) and x2 of a linear layer with random weights, and what every layer has.
OperationRecord& layer(ProgramFile& file, Code code, std::uint32_t in, std::uint32_t width, std::uint32_t columns) {
  Random random(width * 131 + columns);
  const bool integer = code == Code::kLinearInt8;
  std::uint32_t weights;
  if (integer) {
    std::vector<std::int8_t> values(width * columns);
    for (auto& value : values) value = static_cast<std::int8_t>(random.below(256));
    weights = file.constant(packed(values, width, columns));
  } else {
    weights = file.constant(packed(random.floats(width * columns, -1, 1), width, columns));
  }
  const std::size_t padded = round_up(columns, kLanes);
  const std::uint32_t bias = file.constant(random.floats(padded, -1, 1));
  OperationRecord& op = file.add(code);
  op.x[2] = {in, 0};
  set(op.d, {width, columns});
  op.c[0] = weights;
  op.c[1] = bias;
  if (integer) {
    op.c[2] = file.constant(std::vector<std::int32_t>(padded, -128));
    op.c[5] = file.constant(std::vector<float>(padded, 1e-3f));
  }
  return op;
}

ProgramFile floats_layer(Activation activation) {
  ProgramFile file("float32 layer");
  const auto in = file.input(Type::kFloat32, 7), addend = file.input(Type::kFloat32, 20);
  const auto out = file.buffer(Type::kFloat32, 20), codes = file.buffer(Type::kUint8, 64);
  const auto factor = file.constant(std::vector<float>(20, 0.5f));
  const auto quant = file.constant(std::vector<float>(32, 20.0f)), slope = file.constant(std::vector<float>(32, 0.1f));
  OperationRecord& op = layer(file, Code::kLinearFloat32, in, 7, 20);
  op.kind = static_cast<std::uint16_t>(activation);
  op.x[0] = {out, 0};
  op.x[1] = {codes, 4};
  op.x[3] = {addend, 0};
  op.x[4] = {kConstant, factor * 16};
  op.x[5] = {addend, 0};
  op.c[3] = quant;
  op.c[4] = activation == Activation::kPrelu ? slope : kNone;
  op.f[0] = 100;
  file.out = {out, 0};
  file.tasks = 20;
  return file;
}

ProgramFile narrow_layer() {
  ProgramFile file("narrow layer");
  const auto in = file.input(Type::kFloat32, 19), out = file.buffer(Type::kFloat32, 3);
  layer(file, Code::kLinearFloat32, in, 19, 3).x[0] = {out, 0};
  file.out = {out, 0};
  file.tasks = 3;
  return file;
}

ProgramFile grouped_layer() {
  ProgramFile file("grouped layer");
  const auto in = file.input(Type::kFloat32, 12), out = file.buffer(Type::kFloat32, 15);
  OperationRecord& op = layer(file, Code::kLinearFloat32, in, 4, 5);
  op.groups = 3;
  op.x[0] = {out, 0};
  file.out = {out, 0};
  file.tasks = 15;
  return file;
}

// Rounded, two layers, and what came between as floats beside the result.
ProgramFile integers() {
  ProgramFile file("int8 layers");
  const auto in = file.input(Type::kFloat32, 9), given = file.input(Type::kUint8, 6);
  const auto codes = file.buffer(Type::kUint8, 64), hidden = file.buffer(Type::kUint8, 64), out = file.buffer(Type::kFloat32, 64);
  const auto quant = file.constant(std::vector<float>(16, 50.0f));
  OperationRecord& copy = file.add(Code::kCopyUint8);
  copy.x[1] = {codes, 9};
  copy.x[2] = {given, 0};
  set(copy.d, {2, 3});
  set(copy.s0, {1, 2});
  set(copy.s1, {3, 1});
  OperationRecord& round = file.add(Code::kQuantize);
  round.x[1] = {codes, 0};
  round.x[2] = {in, 0};
  round.d[0] = 9;
  round.c[3] = quant;
  round.f[0] = 128;
  const auto steps = file.constant(std::vector<float>(48, 30.0f));
  OperationRecord& first = layer(file, Code::kLinearInt8, codes, 15, 33);
  first.kind = static_cast<std::uint16_t>(Activation::kRelu);
  first.x[1] = {hidden, 0};
  first.c[3] = steps;
  layer(file, Code::kLinearInt8, hidden, 33, 5).x[0] = {out, 0};
  OperationRecord& back = file.add(Code::kDequantize);
  back.x[0] = {out, 5};
  back.x[2] = {hidden, 0};
  back.d[0] = 33;
  back.f[0] = 3;
  back.f[1] = 0.05f;
  file.out = {out, 0};
  file.tasks = 38;
  return file;
}

// Every kind on (3, 4) numbers that are turned around as they are read.
template <class Kind>
ProgramFile elements(const char* name, Code code) {
  constexpr auto kKinds = static_cast<std::uint16_t>(Kind::kCount);
  ProgramFile file(name);
  const auto in = file.input(Type::kFloat32, kWidth), out = file.buffer(Type::kFloat32, kKinds * kWidth);
  const auto numbers = file.constant(Random(5).floats(4, 0.5f, 2));
  for (std::uint16_t kind = 0; kind < kKinds; ++kind) {
    OperationRecord& op = file.add(code, kind);
    op.x[0] = {out, kind * kWidth};
    op.x[2] = {in, 0};
    set(op.d, {3, 4});
    set(op.s0, {4, 1});
    set(op.s1, {1, 3});
    op.f[0] = 0.25f;
    op.f[1] = 0.75f;
    if (code == Code::kUnary) continue;
    op.x[3] = {kConstant, numbers * 16};
    set(op.s2, {0, 1});
  }
  file.out = {out, 0};
  file.tasks = kKinds * kWidth;
  return file;
}

ProgramFile reductions() {
  constexpr auto kKinds = static_cast<std::uint16_t>(Reduction::kCount);
  ProgramFile file("reductions");
  const auto in = file.input(Type::kFloat32, kWidth), out = file.buffer(Type::kFloat32, kKinds * 8);
  for (std::uint16_t kind = 0; kind < kKinds; ++kind) {
    OperationRecord& across = file.add(Code::kReduce, kind);  // (1, 3, 4) over 3
    across.x[0] = {out, kind * 8u};
    across.x[2] = {in, 0};
    set(across.d, {1, 3, 4});
    set(across.s0, {0, 1});
    set(across.s1, {0, 4, 1});
    OperationRecord& along = file.add(Code::kReduce, kind);  // (4, 3, 1) over 3
    along.x[0] = {out, kind * 8u + 4};
    along.x[2] = {in, 0};
    set(along.d, {4, 3, 1});
    set(along.s0, {1, 0});
    set(along.s1, {3, 1, 0});
  }
  file.out = {out, 0};
  file.tasks = kKinds * 8;
  return file;
}

// Where, take, softmax, matmul and dot of one row's numbers.
ProgramFile attention() {
  ProgramFile file("attention");
  const auto in = file.input(Type::kFloat32, kWidth), right = file.input(Type::kFloat32, 20);
  const auto out = file.buffer(Type::kFloat32, 64);
  const auto zeros = file.constant(std::vector<float>(kWidth)), index = file.constant(std::vector<std::int32_t>{2, 0, 2});
  OperationRecord& where = file.add(Code::kWhere);
  where.x[0] = {out, 0};
  where.x[2] = {in, 0};
  where.x[3] = {in, 0};
  where.x[4] = {kConstant, zeros * 16};
  where.d[0] = kWidth;
  OperationRecord& take = file.add(Code::kTake);
  take.x[0] = {out, 12};
  take.x[2] = {in, 0};
  set(take.d, {2, 3, 2, 3});
  take.c[0] = index;
  OperationRecord& softmax = file.add(Code::kSoftmax);
  softmax.x[0] = {out, 24};
  softmax.x[2] = {in, 0};
  set(softmax.d, {2, 3, 2});
  set(softmax.s0, {6, 2, 1});
  set(softmax.s1, {6, 2, 1});
  OperationRecord& matmul = file.add(Code::kMatmul);  // (3, 4) times (4, 5)
  matmul.x[0] = {out, 36};
  matmul.x[2] = {in, 0};
  matmul.x[3] = {right, 0};
  set(matmul.d, {1, 3, 4, 5});
  set(matmul.s0, {0, 5, 1});
  set(matmul.s1, {0, 4, 1});
  set(matmul.s2, {0, 5, 1});
  OperationRecord& dot = file.add(Code::kDot);
  dot.x[0] = {out, 51};
  dot.x[2] = {in, 0};
  dot.x[3] = {right, 0};
  set(dot.d, {3, 4});
  set(dot.s0, {1});
  set(dot.s1, {4, 1});
  set(dot.s2, {5, 1});
  file.out = {out, 0};
  file.tasks = 54;
  return file;
}

}  // namespace

std::uint32_t ProgramFile::buffer(Type type, std::uint32_t stride) {
  std::uint32_t place = 0;
  for (const BufferRecord& record : buffers) {
    const std::uint32_t bytes = record.stride * (record.type == Type::kFloat32 ? 4 : 1);
    place = record.place + (bytes + 63) / 64 * 64;
  }
  buffers.push_back({type, stride, place, 0});
  return static_cast<std::uint32_t>(buffers.size() - 1);
}

std::uint32_t ProgramFile::input(Type type, std::uint32_t width) {
  const std::uint32_t made = buffer(type, width);
  inputs.push_back({made, 0, width, type});
  return made;
}

OperationRecord& ProgramFile::add(Code code, std::uint16_t kind) {
  OperationRecord op{};
  op.code = static_cast<std::uint16_t>(code);
  op.kind = kind;
  op.groups = 1;
  for (Operand& x : op.x) x = {kNone, 0};
  for (std::uint32_t& reference : op.c) reference = kNone;
  return operations.emplace_back(op);
}

std::vector<std::byte> ProgramFile::bytes() const {
  std::vector<std::byte> file(sizeof(Header));
  const auto append = [&file](const auto& records) {
    const auto* from = reinterpret_cast<const std::byte*>(records.data());
    file.insert(file.end(), from, from + records.size() * sizeof records[0]);
  };
  append(buffers);
  append(inputs);
  append(operations);
  file.resize(round_up(file.size(), kConstantUnit));
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.buffers = static_cast<std::uint32_t>(buffers.size());
  header.inputs = static_cast<std::uint32_t>(inputs.size());
  header.operations = static_cast<std::uint32_t>(operations.size());
  header.tasks = tasks;
  header.out = out;
  header.constants_offset = file.size();
  append(constants);
  file.resize(file.size() + kSlack);
  header.constants_bytes = file.size() - header.constants_offset;
  std::memcpy(file.data(), &header, sizeof header);
  return file;
}

std::vector<ProgramFile> example_programs() {
  return {floats_layer(Activation::kRelu), floats_layer(Activation::kPrelu), narrow_layer(), grouped_layer(), integers(),
          elements<Unary>("unary", Code::kUnary), elements<Binary>("binary", Code::kBinary), reductions(), attention()};
}

double steps_of(const Program& program) {
  double steps = 0;
  for (const Operation& op : program.operations()) {
    double each = static_cast<double>(std::max<std::size_t>(op.groups, 1));
    for (std::size_t size : op.d) each *= static_cast<double>(std::max<std::size_t>(size, 1));
    steps += each;
  }
  return steps;
}

bool is_small(const Program& program, std::size_t rows) {
  return program.row_bytes() * rows <= (std::size_t{1} << 22) && program.scratch() <= (std::size_t{1} << 20) &&
         steps_of(program) * static_cast<double>(rows) <= 1e6;
}

std::vector<float> run_tile(const Program& program, const Kernels& kernels, std::size_t rows, std::uint32_t seed) {
  const Tile tile(program, rows);
  for (std::size_t r = 0; r < rows; ++r) {
    Random random(seed + static_cast<std::uint32_t>(r));
    for (const Input& input : program.inputs()) {
      std::byte* cells = tile.at<std::byte>(input.slot, rows) + r * input.slot.stride;
      for (std::size_t i = 0; i < input.width; ++i) {
        if (input.type == Type::kUint8)
          cells[i] = static_cast<std::byte>(random.below(256));
        else
          reinterpret_cast<float*>(cells)[i] = random.between(-2, 2);
      }
    }
  }
  execute(program, kernels, tile, rows, nullptr, nullptr);
  std::vector<float> found;
  const float* out = tile.at<float>(program.out(), rows);
  for (std::size_t r = 0; r < rows; ++r, out += program.out().stride / sizeof(float))
    found.insert(found.end(), out, out + program.tasks());
  return found;
}

}  // namespace rankine::tests
