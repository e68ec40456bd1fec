#include "program.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

namespace rankine::fused {
namespace {

constexpr std::uint64_t kMostRecords = 65'536;
constexpr std::uint64_t kWidest = std::uint64_t{1} << 24;     // elements of a row
constexpr std::uint64_t kMostRowBytes = std::uint64_t{1} << 24;  // of an arena: a tile of 24 rows takes 400 MB
constexpr std::uint64_t kMostScratch = std::uint64_t{1} << 26;   // floats
constexpr std::uint64_t kMostSteps = std::uint64_t{1} << 32;     // of an operation, for a row: about a second
constexpr std::size_t kNarrow = 4;  // columns up to which a layer is products of rows
constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) { return (value + step - 1) / step * step; }

template <class Record>
std::vector<Record> records(const std::byte* bytes, std::uint64_t& offset, std::uint64_t count, std::uint64_t end,
                            const char* what) {
  if (count > kMostRecords) refuse(std::string("too many ") + what);
  const std::uint64_t size = count * sizeof(Record);
  if (offset > end || size > end - offset) refuse(std::string("the file ends within its ") + what);
  std::vector<Record> found(count);
  if (size != 0) std::memcpy(found.data(), bytes + offset, size);  // records may lie unaligned in a hostile file
  offset += size;
  return found;
}

// One more than the furthest element that dimensions reach, in elements; dimensions of no size reach nothing.
std::uint64_t reach(std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> sizes_and_strides) {
  std::uint64_t furthest = 0;
  for (const auto& [size, stride] : sizes_and_strides) {
    if (size == 0) return 0;
    furthest += (size - 1) * stride;  // both are below 2^32, and at most 4 of them: no overflow of 64 bits in practice
    if (size > kWidest || furthest > kWidest) return kNoLimit;
  }
  return furthest + 1;
}

template <class Kind>
bool is_kind(std::uint16_t kind) {
  return kind < static_cast<std::uint16_t>(Kind::kCount);
}

// Checks records one by one and turns them into what is run.
class Reader {
 public:
  Reader(const std::vector<BufferRecord>& buffers, const std::byte* constants, std::uint64_t constants_bytes)
      : buffers_(buffers), constants_(constants), constants_bytes_(constants_bytes) {
    for (const BufferRecord& buffer : buffers) {
      if (buffer.type != Type::kFloat32 && buffer.type != Type::kUint8) refuse("a buffer has an unknown type");
      if (buffer.stride == 0 || buffer.stride > kWidest) refuse("a buffer's stride is out of range");
      if (buffer.place % 64 != 0) refuse("a buffer's place is not a multiple of 64");
      const std::uint64_t end = buffer.place + round_up(std::uint64_t{buffer.stride} * size_of(buffer.type), 64);
      if (end > kMostRowBytes) refuse("a row takes too much memory");
      row_bytes_ = std::max(row_bytes_, end);
    }
  }

  std::uint64_t row_bytes() const { return row_bytes_; }
  std::uint64_t scratch() const { return scratch_; }
  std::uint64_t weight_bytes() const { return weight_bytes_; }

  Input input(const InputRecord& record) const {
    if (record.type != Type::kFloat32 && record.type != Type::kUint8) refuse("an input has an unknown type");
    if (record.width == 0) refuse("an input has no columns");
    return {record.type, record.width, in_buffer({record.buffer, record.offset}, record.type, record.width, "input")};
  }

  // An operand that reaches `extent` elements of every row.
  Slot in_buffer(Operand operand, Type type, std::uint64_t extent, const char* what) const {
    if (operand.buffer >= buffers_.size()) refuse(std::string(what) + ": no such buffer");
    const BufferRecord& buffer = buffers_[operand.buffer];
    if (buffer.type != type) refuse(std::string(what) + ": the buffer has another type");
    if (operand.offset > buffer.stride || extent > buffer.stride - operand.offset)
      refuse(std::string(what) + ": reaches past its row");
    const std::size_t size = size_of(type);
    Slot slot;
    slot.place = buffer.place;
    slot.offset = operand.offset * size;
    slot.stride = buffer.stride * size;
    slot.given = true;
    return slot;
  }

  Operation operation(const OperationRecord& record) {
    Operation made{};
    made.code = static_cast<Code>(record.code);
    made.kind = record.kind;
    made.groups = record.groups;
    for (int i = 0; i < 4; ++i) {
      made.d[i] = record.d[i];
      made.s0[i] = record.s0[i];
      made.s1[i] = record.s1[i];
      made.s2[i] = record.s2[i];
      made.f[i] = record.f[i];
    }
    steps_within(record);
    switch (made.code) {
      case Code::kLinearFloat32:
      case Code::kLinearInt8: linear(record, made); break;
      case Code::kUnary: elements<1>(record, made, is_kind<Unary>(record.kind), Type::kFloat32); break;
      case Code::kBinary: elements<2>(record, made, is_kind<Binary>(record.kind), Type::kFloat32); break;
      case Code::kCopyUint8: elements<1>(record, made, record.kind == 0, Type::kUint8); break;
      case Code::kWhere: where(record, made); break;
      case Code::kTake: take(record, made); break;
      case Code::kReduce: reduce(record, made); break;
      case Code::kSoftmax: softmax(record, made); break;
      case Code::kMatmul: matmul(record, made); break;
      case Code::kQuantize:
        columns_within(record.d[0]);
        made.x[1] = in_buffer(record.x[1], Type::kUint8, record.d[0], "quantize: codes");
        made.x[2] = read(record.x[2], record.d[0], "quantize: values");
        made.c[3] = constant(record.c[3], round_up(record.d[0], kLanes), 4, "quantize: steps");
        break;
      case Code::kDequantize:
        columns_within(record.d[0]);
        made.x[0] = in_buffer(record.x[0], Type::kFloat32, record.d[0], "dequantize: values");
        made.x[2] = in_buffer(record.x[2], Type::kUint8, record.d[0], "dequantize: codes");
        break;
      case Code::kDot:
        made.x[0] = in_buffer(record.x[0], Type::kFloat32, reach({{record.d[0], record.s0[0]}}), "dot: sums");
        made.x[2] = read(record.x[2], reach({{record.d[0], record.s1[0]}, {record.d[1], record.s1[1]}}), "dot: left");
        made.x[3] = read(record.x[3], reach({{record.d[0], record.s2[0]}, {record.d[1], record.s2[1]}}), "dot: right");
        break;
      default: refuse("an operation has an unknown code");
    }
    return made;
  }

 private:
  static std::size_t size_of(Type type) { return type == Type::kFloat32 ? 4 : 1; }

  static void columns_within(std::uint64_t columns) {
    if (columns == 0 || columns > kWidest) refuse("a number of columns is out of range");
  }

  // Strides of zero let a loop of any length stay within its memory: it would not end.
  static void steps_within(const OperationRecord& record) {
    std::uint64_t steps = std::max<std::uint32_t>(record.groups, 1);
    for (const std::uint32_t size : record.d) {
      if (size > kMostSteps / steps) refuse("an operation takes too many steps");
      steps *= std::max<std::uint32_t>(size, 1);
    }
  }

  // The elements of an output are distinct: with what an extent may be, that bounds the loops over them.
  static void require_distinct(std::uint64_t elements, std::uint64_t extent, const char* what) {
    if (elements > extent) refuse(std::string(what) + ": writes an element twice");
  }

  static void require_kind(bool known) {
    if (!known) refuse("an operation is of an unknown kind");
  }

  // Floats of a buffer or of the constants.
  Slot read(Operand operand, std::uint64_t extent, const char* what) const {
    if (operand.buffer != kConstant) return in_buffer(operand, Type::kFloat32, extent, what);
    const std::uint64_t from = std::uint64_t{operand.offset} * 4;
    if (extent > kWidest || !fits(from, extent * 4)) refuse(std::string(what) + ": reaches past the constants");
    Slot slot;
    slot.constant = constants_ + from;
    slot.given = true;
    return slot;
  }

  Slot read_if_given(Operand operand, std::uint64_t extent, const char* what) const {
    return operand.buffer == kNone ? Slot{} : read(operand, extent, what);
  }

  bool fits(std::uint64_t from, std::uint64_t bytes) const {
    return constants_bytes_ >= kSlack && from <= constants_bytes_ - kSlack && bytes <= constants_bytes_ - kSlack - from;
  }

  const std::byte* constant(std::uint32_t reference, std::uint64_t count, std::uint64_t size, const char* what) const {
    const std::uint64_t from = std::uint64_t{reference} * kConstantUnit;
    if (reference == kNone || count > kNoLimit / size || !fits(from, count * size))
      refuse(std::string(what) + ": reaches past the constants");
    return constants_ + from;
  }

  const std::byte* constant_if_given(std::uint32_t reference, std::uint64_t count, const char* what) const {
    return reference == kNone ? nullptr : constant(reference, count, 4, what);
  }

  // Sub-rows follow each other, also from row to row: a linear layer sees one array of rows * groups rows.
  void require_flat(const Slot& slot, std::uint64_t groups, std::uint64_t width, std::uint64_t size) const {
    if (slot.given && slot.constant == nullptr && groups > 1 && (slot.offset != 0 || slot.stride != groups * width * size))
      refuse("linear: sub-rows do not follow each other");
  }

  void linear(const OperationRecord& record, Operation& made) {
    const bool integer = made.code == Code::kLinearInt8;
    const std::uint64_t width = record.d[0], columns = record.d[1], groups = record.groups;
    columns_within(width);
    columns_within(columns);
    columns_within(groups);
    require_kind(record.kind <= static_cast<std::uint16_t>(Activation::kPrelu));
    const std::uint64_t inner = groups * width, outer = groups * columns, padded = round_up(columns, kLanes);
    const Type in = integer ? Type::kUint8 : Type::kFloat32;
    made.x[2] = in_buffer(record.x[2], in, inner, "linear: input");
    if (record.x[0].buffer != kNone) made.x[0] = in_buffer(record.x[0], Type::kFloat32, outer, "linear: output");
    if (record.x[1].buffer != kNone) made.x[1] = in_buffer(record.x[1], Type::kUint8, outer, "linear: codes");
    if (!made.x[0].given && !made.x[1].given) refuse("linear: has no output");
    for (int i = 3; i < 6; ++i) {
      const bool fixed = record.x[i].buffer == kConstant;
      made.x[i] = read_if_given(record.x[i], fixed ? columns : outer, "linear: operand");
    }
    require_flat(made.x[2], groups, width, integer ? 1 : 4);
    require_flat(made.x[1], groups, columns, 1);
    for (int i : {0, 3, 4, 5}) require_flat(made.x[i], groups, columns, 4);
    const std::uint64_t weights = integer ? round_up(width, 4) * padded : width * padded * 4;
    made.c[0] = constant(record.c[0], weights, 1, "linear: weights");
    weight_bytes_ += weights;
    made.c[1] = constant_if_given(record.c[1], padded, "linear: bias");
    if (integer) {
      made.c[2] = constant(record.c[2], padded, 4, "linear: correction");
      made.c[5] = constant(record.c[5], padded, 4, "linear: scales");
    }
    if (made.x[1].given) made.c[3] = constant(record.c[3], padded, 4, "linear: steps");
    if (static_cast<Activation>(record.kind) == Activation::kPrelu)
      made.c[4] = constant(record.c[4], padded, 4, "linear: slopes");
    if (integer)
      prepare_codes(made, padded);
    else if (columns <= kNarrow)
      prepare_narrow(made, padded);
  }

  // Where a layer gives codes only, its scales and its steps are one factor, and so are its biases.
  static void prepare_codes(Operation& made, std::size_t padded) {
    const bool plain = static_cast<Activation>(made.kind) != Activation::kPrelu && !made.x[0].given &&
                       !made.x[3].given && !made.x[4].given && !made.x[5].given;
    if (!plain) return;
    const auto* scale = reinterpret_cast<const float*>(made.c[5]);
    const auto* bias = reinterpret_cast<const float*>(made.c[1]);
    const auto* quant = reinterpret_cast<const float*>(made.c[3]);
    made.code_scale.resize(padded);
    made.code_bias.resize(padded);
    for (std::size_t n = 0; n < padded; ++n) {
      made.code_scale[n] = scale[n] * quant[n];
      made.code_bias[n] = bias == nullptr ? 0.0f : bias[n] * quant[n];
    }
  }

  static void prepare_narrow(Operation& made, std::size_t padded) {
    const std::size_t width = made.d[0], columns = made.d[1];
    const auto* weights = reinterpret_cast<const float*>(made.c[0]);
    made.narrow.resize(width * columns);
    for (std::size_t n = 0; n < columns; ++n)
      for (std::size_t k = 0; k < width; ++k) made.narrow[n * width + k] = weights[k * padded + n];
  }

  // Of element by element operations: kOperands inputs, in a loop as short as their strides allow.
  template <int kOperands>
  void elements(const OperationRecord& record, Operation& made, bool known, Type type) {
    require_kind(known);
    const std::array<const std::uint32_t*, 3> strides{record.s0, record.s1, record.s2};
    for (std::size_t& size : made.d) size = std::max<std::size_t>(size, 1);  // what is not used is zero
    std::uint64_t extents[3];
    for (int o = 0; o <= kOperands; ++o)
      extents[o] = reach({{made.d[0], strides[o][0]}, {made.d[1], strides[o][1]}, {made.d[2], strides[o][2]},
                          {made.d[3], strides[o][3]}});
    const int out = type == Type::kUint8 ? 1 : 0;
    made.x[out] = in_buffer(record.x[out], type, extents[0], "elements: output");
    require_distinct(made.d[0] * made.d[1] * made.d[2] * made.d[3], extents[0], "elements");
    for (int o = 1; o <= kOperands; ++o)
      made.x[o + 1] = type == Type::kUint8 ? in_buffer(record.x[o + 1], type, extents[o], "elements: input")
                                           : read(record.x[o + 1], extents[o], "elements: input");
    const Slot* slots[3] = {&made.x[out], &made.x[2], &made.x[3]};
    const std::size_t size = size_of(type);
    Dimension rows;
    rows.rows = true;
    for (int o = 0; o <= kOperands; ++o) rows.stride[o] = slots[o]->stride / size;
    made.loop.push_back(rows);
    for (int i = 0; i < 4; ++i) {
      if (made.d[i] == 1) continue;
      Dimension dimension;
      dimension.size = made.d[i];
      for (int o = 0; o <= kOperands; ++o) dimension.stride[o] = strides[o][i];
      made.loop.push_back(dimension);
    }
    merge(made.loop, kOperands);
  }

  // Joins neighboring dimensions that are one for every operand.
  static void merge(std::vector<Dimension>& loop, int operands) {
    for (std::size_t i = loop.size(); i-- > 1;) {
      bool one = true;
      for (int o = 0; o <= operands; ++o) one = one && loop[i - 1].stride[o] == loop[i].size * loop[i].stride[o];
      if (!one) continue;
      loop[i].size *= loop[i - 1].size;
      loop[i].rows = loop[i - 1].rows;
      loop.erase(loop.begin() + static_cast<std::ptrdiff_t>(i) - 1);
    }
  }

  void where(const OperationRecord& record, Operation& made) const {
    columns_within(record.d[0]);
    made.x[0] = in_buffer(record.x[0], Type::kFloat32, record.d[0], "where: output");
    for (int i = 2; i < 5; ++i) made.x[i] = read(record.x[i], record.d[0], "where: input");
  }

  void take(const OperationRecord& record, Operation& made) const {
    for (std::uint32_t size : record.d) columns_within(size);
    const std::uint64_t outer = record.d[0], count = record.d[1], inner = record.d[2], axis = record.d[3];
    made.x[0] = in_buffer(record.x[0], Type::kFloat32, reach({{outer, count * inner}, {count, inner}, {inner, 1}}),
                          "take: output");
    made.x[2] = read(record.x[2], reach({{outer, axis * inner}, {axis, inner}, {inner, 1}}), "take: input");
    const std::byte* from = constant(record.c[0], count, sizeof(std::int32_t), "take: indices");
    made.indices.resize(count);
    std::memcpy(made.indices.data(), from, count * sizeof(std::int32_t));
    for (const std::int32_t index : made.indices)
      if (index < 0 || static_cast<std::uint64_t>(index) >= axis) refuse("take: an index is out of range");
  }

  void reduce(const OperationRecord& record, Operation& made) const {
    require_kind(is_kind<Reduction>(record.kind));
    for (int i = 0; i < 3; ++i) columns_within(record.d[i]);
    made.x[0] = in_buffer(record.x[0], Type::kFloat32, reach({{record.d[0], record.s0[0]}, {record.d[2], record.s0[1]}}),
                          "reduce: output");
    made.x[2] = read(record.x[2], reach({{record.d[0], record.s1[0]}, {record.d[1], record.s1[1]}, {record.d[2], record.s1[2]}}),
                     "reduce: input");
  }

  void softmax(const OperationRecord& record, Operation& made) {
    require_kind(record.kind <= 1);
    for (int i = 0; i < 3; ++i) columns_within(record.d[i]);
    const auto extent = [&](const std::uint32_t* strides) {
      return reach({{record.d[0], strides[0]}, {record.d[1], strides[1]}, {record.d[2], strides[2]}});
    };
    made.x[0] = in_buffer(record.x[0], Type::kFloat32, extent(record.s0), "softmax: output");
    made.x[2] = read(record.x[2], extent(record.s1), "softmax: input");
    scratch_ = std::max<std::uint64_t>(scratch_, record.d[1]);
  }

  void matmul(const OperationRecord& record, Operation& made) {
    for (std::uint32_t size : record.d) columns_within(size);
    const std::uint64_t batch = record.d[0], m = record.d[1], k = record.d[2], n = record.d[3];
    const auto extent = [&](const std::uint32_t* strides, std::uint64_t rows, std::uint64_t columns) {
      return reach({{batch, strides[0]}, {rows, strides[1]}, {columns, strides[2]}});
    };
    made.x[0] = in_buffer(record.x[0], Type::kFloat32, extent(record.s0, m, n), "matmul: output");
    made.x[2] = read(record.x[2], extent(record.s1, m, k), "matmul: left");
    made.x[3] = read(record.x[3], extent(record.s2, k, n), "matmul: right");
    scratch_ = std::max<std::uint64_t>(scratch_, (kPanel + 16) * k);
    if (scratch_ > kMostScratch) refuse("matmul: takes too much memory");
  }

  const std::vector<BufferRecord>& buffers_;
  const std::byte* constants_;
  std::uint64_t constants_bytes_;
  std::uint64_t row_bytes_ = 64;
  std::uint64_t scratch_ = 0;
  std::uint64_t weight_bytes_ = 0;
};

}  // namespace

Program::Program(const std::byte* bytes, std::size_t size) {
  Header header;
  if (size < sizeof header) refuse("the file is too short");
  std::memcpy(&header, bytes, sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) refuse("the file is no program of this engine");
  if (header.version != kVersion) refuse("the program is of version " + std::to_string(header.version));
  if (header.tasks == 0) refuse("the program has no output");
  if (header.constants_offset % kConstantUnit != 0 || header.constants_offset > size ||
      header.constants_bytes != size - header.constants_offset)
    refuse("the constants do not end where the file ends");
  std::uint64_t offset = sizeof header;
  const std::uint64_t end = header.constants_offset;
  const auto buffers = records<BufferRecord>(bytes, offset, header.buffers, end, "buffers");
  const auto inputs = records<InputRecord>(bytes, offset, header.inputs, end, "inputs");
  const auto operations = records<OperationRecord>(bytes, offset, header.operations, end, "operations");
  Reader reader(buffers, bytes + header.constants_offset, header.constants_bytes);
  for (const InputRecord& record : inputs) inputs_.push_back(reader.input(record));
  for (const OperationRecord& record : operations) operations_.push_back(reader.operation(record));
  out_ = reader.in_buffer(header.out, Type::kFloat32, header.tasks, "output");
  tasks_ = header.tasks;
  row_bytes_ = reader.row_bytes();
  scratch_ = reader.scratch();
  weight_bytes_ = reader.weight_bytes();
}

}  // namespace rankine::fused
