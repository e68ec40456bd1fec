// The loader believes nothing that a file says: whatever is written into it, it is refused, or runs within its memory.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "allocations.h"
#include "check.h"
#include "guarded.h"
#include "programs.h"
#include "random.h"

namespace rankine::tests {
namespace {

using namespace fused;

// Empty where the bytes are a program, else what is wrong.
std::string refusal(const std::byte* bytes, std::size_t size) {
  try {
    Program(bytes, size);
    return "";
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
}

std::string refusal(const ProgramFile& file) {
  const auto bytes = file.bytes();
  return refusal(bytes.data(), bytes.size());
}

ProgramFile example(const std::string& name) {
  for (const ProgramFile& file : example_programs())
    if (file.name == name) return file;
  throw std::invalid_argument("no example " + name);
}

struct Tally {
  std::size_t refused = 0, run = 0, large = 0;
};

// Loads the file and, where it is small, runs it; constants and tile end at forbidden pages.
void load_and_run(const std::vector<std::byte>& bytes, const Guarded& memory, Tally& tally) {
  const std::byte* file = memory.copy(bytes.data(), bytes.size(), Edge::kEnd);
  std::unique_ptr<const Program> program;
  try {
    program = std::make_unique<const Program>(file, bytes.size());
  } catch (const std::invalid_argument&) {
    ++tally.refused;
    return;
  }
  constexpr std::size_t kRows = 3;
  if (!is_small(*program, kRows)) {
    ++tally.large;
    return;
  }
  const GuardedArrays guarded;
  run_tile(*program, *all_kernels()[tally.run++ % all_kernels().size()], kRows, 1);
}

// What a field is set to: its own neighbors, and numbers around which arithmetic or limits turn over.
std::vector<std::uint32_t> hostile(std::uint32_t value) {
  std::vector<std::uint32_t> found{value - 1, value + 1, value + 16, value * 2, value + 64};
  for (std::uint32_t limit : {1u, 64u, 256u, 1u << 16, 1u << 24, 1u << 26, 1u << 28, 1u << 30, 1u << 31, 0u})
    for (std::uint32_t near : {limit - 1, limit, limit + 1}) found.push_back(near);
  found.push_back(kConstant);
  return found;
}

// Fields of that size of the header and of the records, from `first` on, `step` bytes apart.
template <class Field>
void set_fields(std::size_t (*first)(const Header&), std::size_t step) {
  for (const ProgramFile& file : example_programs()) {
    const auto bytes = file.bytes();
    Header header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const Guarded memory(bytes.size());
    Tally tally;
    for (std::size_t at = first(header); at + sizeof(Field) <= header.constants_offset; at += step) {
      Field value;
      std::memcpy(&value, bytes.data() + at, sizeof value);
      for (std::uint32_t set : hostile(value)) {
        auto changed = bytes;
        const auto given = static_cast<Field>(set);
        std::memcpy(changed.data() + at, &given, sizeof given);
        load_and_run(changed, memory, tally);
      }
    }
    CHECK(tally.refused > 5 && tally.run > 5, file.name << ": " << tally.refused << " refused, " << tally.run << " run");
  }
}

struct Lie {
  const char* program;
  std::function<void(ProgramFile&)> tell;
  const char* refusal;  // part of the text
};

const Lie kLies[] = {
    {"float32 layer", [](ProgramFile& f) { f.buffers[0].type = Type{2}; }, "unknown type"},
    {"float32 layer", [](ProgramFile& f) { f.buffers[0].stride = 0; }, "stride is out of range"},
    {"float32 layer", [](ProgramFile& f) { f.buffers[0].stride = (1u << 24) + 1; }, "stride is out of range"},
    {"float32 layer", [](ProgramFile& f) { f.buffers[0].place = 32; }, "multiple of 64"},
    {"float32 layer", [](ProgramFile& f) { f.buffers[0].place = 0xFFFFFFC0; }, "too much memory"},
    {"float32 layer", [](ProgramFile& f) { f.buffers[0].stride = 6; }, "reaches past its row"},
    {"float32 layer", [](ProgramFile& f) { f.inputs[0].buffer = 4; }, "no such buffer"},
    {"float32 layer", [](ProgramFile& f) { f.inputs[0].width = 8; }, "reaches past its row"},
    {"float32 layer", [](ProgramFile& f) { f.inputs[0].width = 0; }, "no columns"},
    {"float32 layer", [](ProgramFile& f) { f.inputs[0].offset = 1; }, "reaches past its row"},
    {"float32 layer", [](ProgramFile& f) { f.inputs[0].type = Type::kUint8; }, "another type"},
    {"float32 layer", [](ProgramFile& f) { f.tasks = 21; }, "reaches past its row"},
    {"float32 layer", [](ProgramFile& f) { f.tasks = 0; }, "no output"},
    {"float32 layer", [](ProgramFile& f) { f.out.buffer = kConstant; }, "no such buffer"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].code = 14; }, "unknown code"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].kind = 3; }, "unknown kind"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].groups = 0; }, "out of range"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].x[0].buffer = f.operations[0].x[1].buffer = kNone; }, "has no output"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].x[1].offset = 45; }, "reaches past its row"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].x[2].buffer = kConstant; }, "no such buffer"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].x[4].offset = static_cast<std::uint32_t>(f.constants.size() / 4) - 19; }, "past the constants"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].d[0] = 8; }, "reaches past its row"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].c[0] = static_cast<std::uint32_t>(f.constants.size() / 64) - 13; }, "past the constants"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].c[0] = kNone; }, "past the constants"},
    {"float32 layer", [](ProgramFile& f) { f.operations[0].c[1] = static_cast<std::uint32_t>(f.constants.size() / 64) - 1; }, "past the constants"},
    {"grouped layer", [](ProgramFile& f) { f.buffers[0].stride = 13; }, "do not follow each other"},
    {"grouped layer", [](ProgramFile& f) { f.operations[0].groups = 2; }, "do not follow each other"},
    {"int8 layers", [](ProgramFile& f) { f.operations[2].c[2] = kNone; }, "correction"},
    {"int8 layers", [](ProgramFile& f) { f.operations[2].c[3] = kNone; }, "steps"},
    {"int8 layers", [](ProgramFile& f) { f.operations[0].kind = 1; }, "unknown kind"},
    {"int8 layers", [](ProgramFile& f) { f.operations[0].s0[1] = 64; }, "reaches past its row"},
    {"int8 layers", [](ProgramFile& f) { f.operations[1].d[0] = 10; }, "reaches past its row"},
    {"unary", [](ProgramFile& f) { f.operations[0].kind = 19; }, "unknown kind"},
    {"unary", [](ProgramFile& f) { f.operations[0].d[3] = 1u << 25; }, "past"},
    {"unary", [](ProgramFile& f) { f.operations[0].d[2] = 2; }, "an element twice"},
    {"unary", [](ProgramFile& f) { f.operations[18].s0[0] = 5; }, "reaches past its row"},
    {"binary", [](ProgramFile& f) { f.operations[0].s1[1] = 0xFFFFFFFF; }, "reaches past its row"},
    {"reductions", [](ProgramFile& f) { f.operations[0].d[1] = 4; }, "reaches past its row"},
    {"reductions", [](ProgramFile& f) { f.operations[0].d[1] = 0; }, "out of range"},
    {"attention", [](ProgramFile& f) { f.operations[1].d[3] = 2; }, "index is out of range"},
    {"attention", [](ProgramFile& f) { f.operations[1].d[3] = 7; }, "reaches past its row"},
    {"attention", [](ProgramFile& f) { f.operations[3].d[2] = 5; }, "reaches past its row"},
    {"attention", [](ProgramFile& f) { f.operations[4].d[1] = 1u << 24; }, "reaches past its row"},
};

}  // namespace

TEST(programs_load_when_nothing_is_wrong) {
  for (const ProgramFile& file : example_programs()) CHECK(refusal(file).empty(), file.name << ": " << refusal(file));
}

TEST(programs_are_refused_with_the_reason_when_a_field_is_a_lie) {
  for (const Lie& lie : kLies) {
    ProgramFile file = example(lie.program);
    lie.tell(file);
    const std::string found = refusal(file);
    CHECK(found.find(lie.refusal) != std::string::npos, lie.program << ": '" << found << "', not '" << lie.refusal << "'");
  }
}

TEST(programs_are_refused_when_the_header_is_a_lie) {
  const auto bytes = example("attention").bytes();
  const auto changed = [&](std::size_t at, std::uint32_t value) {
    auto copy = bytes;
    std::memcpy(copy.data() + at, &value, sizeof value);
    return refusal(copy.data(), copy.size());
  };
  CHECK(changed(0, 0) == "the file is no program of this engine", changed(0, 0));
  CHECK(changed(offsetof(Header, version), 2) == "the program is of version 2", changed(offsetof(Header, version), 2));
  for (std::size_t count : {offsetof(Header, buffers), offsetof(Header, inputs), offsetof(Header, operations)}) {
    CHECK(changed(count, 65'537).starts_with("too many"), changed(count, 65'537));
    CHECK(changed(count, 65'536).find("ends within") != std::string::npos, changed(count, 65'536));
  }
  for (std::uint32_t offset : {0u, 1u, 63u, 0xFFFFFFC0u})
    CHECK(!changed(offsetof(Header, constants_offset), offset).empty(), "constants begin at " << offset);
}

TEST(programs_are_refused_when_cut_at_any_byte_or_longer) {
  for (const ProgramFile& file : example_programs()) {
    const auto bytes = file.bytes();
    const Guarded memory(bytes.size());
    for (std::size_t size = 0; size < bytes.size(); ++size)
      CHECK(!refusal(memory.copy(bytes.data(), size, Edge::kEnd), size).empty(), file.name << " of " << size << " bytes");
    auto longer = bytes;
    longer.push_back(std::byte{0});
    CHECK(!refusal(longer.data(), longer.size()).empty(), file.name << " with a byte more");
  }
}

TEST(programs_are_refused_or_stay_within_their_memory_when_any_field_is_hostile) {
  set_fields<std::uint32_t>([](const Header&) { return std::size_t{0}; }, sizeof(std::uint32_t));
}

TEST(programs_are_refused_or_stay_within_their_memory_when_codes_and_kinds_are_hostile) {
  set_fields<std::uint16_t>([](const Header& h) { return sizeof h + (h.buffers + h.inputs) * 16; }, sizeof(OperationRecord));
  set_fields<std::uint16_t>([](const Header& h) { return sizeof h + (h.buffers + h.inputs) * 16 + 2; }, sizeof(OperationRecord));
}

TEST(programs_stay_within_their_memory_when_constants_are_any_bits) {
  Random random(11);
  for (const ProgramFile& file : example_programs()) {
    const Guarded memory(file.bytes().size());
    Tally tally;
    for (int turn = 0; turn < 30; ++turn) {
      ProgramFile changed = file;
      for (std::byte& byte : changed.constants) byte = static_cast<std::byte>(turn == 0 ? 255 : random.below(256));
      load_and_run(changed.bytes(), memory, tally);
    }
    // Only indices of "take" are read as anything but numbers.
    CHECK(tally.run == (file.name == "attention" ? 0 : 30), file.name << ": " << tally.run << " run");
  }
}

TEST(programs_are_refused_when_they_would_take_too_many_steps_or_too_much_memory) {
  ProgramFile endless = example("unary");  // writes one element 2^48 times
  endless.operations[0].d[2] = endless.operations[0].d[3] = 1u << 24;
  CHECK(refusal(endless).find("too many steps") != std::string::npos, refusal(endless));
  ProgramFile scratch = example("attention");  // a long inner axis of one and the same number
  scratch.operations[3].d[2] = 1u << 24;
  scratch.operations[3].s1[2] = scratch.operations[3].s2[1] = 0;
  CHECK(!refusal(scratch).empty(), "a matmul with gigabytes of scratch");
  ProgramFile wide = example("unary");
  wide.buffers[0].place = 1u << 24;
  CHECK(refusal(wide).find("too much memory") != std::string::npos, refusal(wide));
}

}  // namespace rankine::tests
