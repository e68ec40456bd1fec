// Stored rows, as floats and as codes, on every instruction set: equal to the bit; every array ends, or begins, at a page
// that may not be touched.
#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "half.h"
#include "check.h"
#include "guarded.h"
#include "random.h"

namespace rankine::tests {
namespace {

using namespace fused;

constexpr std::size_t kMostBytes = 4096;
constexpr Cells kKinds[] = {Cells::kFloat32, Cells::kFloat16, Cells::kUint8};

struct Cell {
  std::vector<float> floats;
  std::vector<std::uint16_t> halves;
  std::vector<std::uint8_t> bytes;

  Cell(Random& random, std::size_t columns) : floats(random.floats(columns, -3, 3)) {
    for (std::size_t i = 0; i < columns; ++i) {
      halves.push_back(static_cast<std::uint16_t>(random.below(0x4400) | (random.below(2) << 15)));  // up to 4
      bytes.push_back(static_cast<std::uint8_t>(random.below(256)));
    }
  }
  const void* place(const Guarded& memory, Cells kind, Edge edge) const {
    if (kind == Cells::kFloat32) return memory.copy(floats.data(), floats.size(), edge);
    if (kind == Cells::kFloat16) return memory.copy(halves.data(), halves.size(), edge);
    return memory.copy(bytes.data(), bytes.size(), edge);
  }
  float value(Cells kind, std::size_t i, float scale, float bias) const {
    if (kind == Cells::kFloat32) return floats[i];
    if (kind == Cells::kFloat16) return to_float(Half{halves[i]});
    return static_cast<float>(bytes[i]) * scale + bias;
  }
};

}  // namespace

TEST(stored_rows_are_equal_to_the_bit_when_kinds_and_columns_vary) {
  const Guarded from(kMostBytes), sums(kMostBytes), to(kMostBytes), rounded(kMostBytes);
  for (Cells kind : kKinds)
    for (bool added : {false, true})
      for (std::size_t columns = 1; columns <= 130; ++columns)
        for (Edge edge : kEdges) {
          Random random(static_cast<std::uint32_t>(columns));
          const Cell cells(random, columns);
          const auto other = random.floats(columns, -1, 1);
          const StoredRow row{kind, cells.place(from, kind, edge), 0.02f, -2.5f,
                              added ? sums.copy(other.data(), columns, edge) : nullptr, columns};
          const float zero = static_cast<float>(random.below(256)), quant = random.between(10, 60);
          const float lowest = columns % 3 == 0 ? zero : 0.0f;  // of a ReLU, or of none
          for (const Kernels* kernels : all_kernels()) {
            float* out = to.place<float>(columns, edge);
            std::uint8_t* codes = rounded.place<std::uint8_t>(columns, edge);
            kernels->stored(row, out);
            kernels->stored_codes(row, quant, zero, lowest, codes);
            for (std::size_t i = 0; i < columns; ++i) {
              const float value = cells.value(kind, i, row.scale, row.bias) + (added ? other[i] : 0.0f);
              CHECK(out[i] == value, kernels->name << ", kind " << static_cast<int>(kind) << ": " << out[i] << " is not " << value);
              const double steps = std::clamp<double>(value * quant, lowest - zero, 255 - zero);
              CHECK(codes[i] == std::nearbyint(steps + zero), kernels->name << ", kind " << static_cast<int>(kind) << ": code "
                                                                            << +codes[i] << " of " << value);
            }
          }
        }
}

TEST(every_half_is_the_same_float_on_every_instruction_set) {
  std::vector<std::uint16_t> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  for (const Kernels* kernels : all_kernels()) {
    std::vector<float> out(all.size());
    kernels->stored({Cells::kFloat16, all.data(), 1, 0, nullptr, all.size()}, out.data());
    for (std::size_t i = 0; i < all.size(); ++i) {
      const int exponent = static_cast<int>(i >> 10 & 31), fraction = static_cast<int>(i & 1023);
      const double size = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
      const double expected = exponent == 31 ? (fraction != 0 ? NAN : INFINITY) : size;
      const bool same = std::isnan(expected) ? std::isnan(out[i]) : std::fabs(out[i]) == expected && std::signbit(out[i]) == (i >> 15 != 0);
      CHECK(same, kernels->name << ": half " << i << " became " << out[i]);
    }
  }
}

}  // namespace rankine::tests
