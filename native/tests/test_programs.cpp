// Whole programs, whose constants and whose tile end at pages that may not be touched.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "allocations.h"
#include "check.h"
#include "guarded.h"
#include "programs.h"
#include "random.h"

namespace rankine::tests {
namespace {

bool close(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || a == b || std::fabs(a - b) <= 2e-5f * std::max(1.0f, std::fabs(b));
}

void check_close(const std::vector<float>& found, const std::vector<float>& expected, const std::string& where) {
  for (std::size_t i = 0; i < expected.size(); ++i)
    CHECK(close(found[i], expected[i]), where << ", number " << i << ": " << found[i] << " is not " << expected[i]);
}

}  // namespace

TEST(programs_give_the_same_on_every_instruction_set_and_touch_nothing_else) {
  for (const ProgramFile& file : example_programs()) {
    const auto bytes = file.bytes();
    const Guarded memory(bytes.size());
    const fused::Program program(memory.copy(bytes.data(), bytes.size(), Edge::kEnd), bytes.size());
    for (std::size_t rows = 1; rows <= 25; ++rows) {
      const GuardedArrays guarded;
      const auto expected = run_tile(program, fused::portable_kernels(), rows, 3);
      for (const fused::Kernels* kernels : all_kernels())
        check_close(run_tile(program, *kernels, rows, 3), expected, file.name + " on " + kernels->name);
    }
  }
}

TEST(int8_programs_are_equal_to_the_bit_on_every_instruction_set) {
  for (const ProgramFile& file : example_programs()) {
    if (file.name != "int8 layers") continue;
    const auto bytes = file.bytes();
    const fused::Program program(bytes.data(), bytes.size());
    const auto expected = run_tile(program, fused::portable_kernels(), 25, 8);
    bool differ = false;  // rows: else this would compare constants
    for (std::size_t i = 0; i + file.tasks < expected.size(); ++i) differ |= expected[i] != expected[i + file.tasks];
    CHECK(differ, "every row gives the same");
    for (const fused::Kernels* kernels : all_kernels()) CHECK(run_tile(program, *kernels, 25, 8) == expected, kernels->name);
  }
}

TEST(a_row_is_the_same_when_it_is_alone_in_its_tile) {
  for (const ProgramFile& file : example_programs()) {
    const auto bytes = file.bytes();
    const fused::Program program(bytes.data(), bytes.size());
    for (const fused::Kernels* kernels : all_kernels()) {
      const auto together = run_tile(program, *kernels, 25, 4);
      for (std::uint32_t row = 0; row < 25; ++row) {
        const auto alone = run_tile(program, *kernels, 1, 4 + row);
        const float* same = together.data() + row * alone.size();
        CHECK(std::memcmp(alone.data(), same, alone.size() * sizeof(float)) == 0,
              file.name << " on " << kernels->name << ": row " << row << " depends on the others");
      }
    }
  }
}

}  // namespace rankine::tests
