// Programs made in memory, for the tests and as the fuzzer's first inputs.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fused/format.h"
#include "fused/kernels.h"
#include "fused/program.h"

namespace rankine::tests {

// A program's file, in parts that a test can change.
struct ProgramFile {
  explicit ProgramFile(std::string what) : name(std::move(what)) {}

  std::string name;
  std::vector<fused::BufferRecord> buffers;
  std::vector<fused::InputRecord> inputs;
  std::vector<fused::OperationRecord> operations;
  fused::Operand out{0, 0};
  std::uint32_t tasks = 1;
  std::vector<std::byte> constants;

  // Both behind what there is; a buffer's number, and an array's place in units of 64 bytes.
  std::uint32_t buffer(fused::Type type, std::uint32_t stride);
  template <class T>
  std::uint32_t constant(const std::vector<T>& values) {
    const auto unit = static_cast<std::uint32_t>(constants.size() / fused::kConstantUnit);
    constants.resize(constants.size() + (values.size() * sizeof(T) + 63) / 64 * 64);
    std::memcpy(constants.data() + unit * fused::kConstantUnit, values.data(), values.size() * sizeof(T));
    return unit;
  }
  // A buffer that the host fills.
  std::uint32_t input(fused::Type type, std::uint32_t width);
  fused::OperationRecord& add(fused::Code code, std::uint16_t kind = 0);

  std::vector<std::byte> bytes() const;
};

// One or more programs for every code, with every kind.
std::vector<ProgramFile> example_programs();

// Multiply-adds, or so, of one row; without overflow.
double steps_of(const fused::Program& program);

// Whether a program that nobody knows can be run in no time and little memory.
bool is_small(const fused::Program& program, std::size_t rows);

// The output (rows, tasks) of a tile; inputs of row r are random numbers of seed + r.
std::vector<float> run_tile(const fused::Program& program, const fused::Kernels& kernels, std::size_t rows,
                            std::uint32_t seed);

}  // namespace rankine::tests
