// Products of matrices by any strides against double precision, on every instruction set.
#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "fused/format.h"
#include "guarded.h"
#include "random.h"

namespace rankine::tests {
namespace {

using namespace fused;

constexpr std::size_t kMostBytes = 512 << 10;

// Strides of a matrix: its rows or its columns lie together, some apart from each other.
struct Strides {
  std::size_t row, column;
  std::size_t extent(std::size_t rows, std::size_t columns) const { return (rows - 1) * row + (columns - 1) * column + 1; }
};

Strides strides_of(int form, std::size_t rows, std::size_t columns) {
  return form == 0 ? Strides{columns + 1, 1} : Strides{1, rows + 2};
}

}  // namespace

TEST(matmul_equals_double_precision_when_shapes_and_strides_vary) {
  const Guarded left(kMostBytes), right(kMostBytes), to(kMostBytes), work(kMostBytes);
  std::uint32_t turn = 0;
  for (std::size_t m : {1, 2, 5, 16, 17, 25})
    for (std::size_t k : {1, 3, 16, 33})
      for (std::size_t n : {1, 4, 5, 16, 50, 64, 65, 130})
        for (int forms = 0; forms < 8; ++forms, ++turn) {
          Random random(turn);
          const Edge edge = kEdges[turn / 8 % 2];
          const Strides a = strides_of(forms & 1, m, k), b = strides_of(forms >> 1 & 1, k, n), o = strides_of(forms >> 2, m, n);
          const auto first = random.floats(a.extent(m, k), -1, 1), second = random.floats(b.extent(k, n), -1, 1);
          const float* x = left.copy(first.data(), first.size(), edge);
          const float* y = right.copy(second.data(), second.size(), edge);
          for (const Kernels* kernels : all_kernels()) {
            float* out = to.place<float>(o.extent(m, n), edge);
            std::fill(out, out + o.extent(m, n), 99.0f);
            float* scratch = work.place<float>((kPanel + 16) * k, edge);
            kernels->matmul({x, y, out, m, k, n, a.row, a.column, b.row, b.column, o.row, o.column, scratch});
            for (std::size_t i = 0; i < m; ++i)
              for (std::size_t j = 0; j < n; ++j) {
                double expected = 0;
                for (std::size_t l = 0; l < k; ++l)
                  expected += static_cast<double>(x[i * a.row + l * a.column]) * y[l * b.row + j * b.column];
                const float found = out[i * o.row + j * o.column];
                CHECK(std::fabs(found - expected) <= 1e-5, kernels->name << ", " << m << " x " << k << " x " << n << ", forms "
                                                                         << forms << ": " << found << " is not " << expected);
                if (forms >> 2 == 0 && j + 1 == n && i + 1 < m)
                  CHECK(out[i * o.row + n] == 99.0f, kernels->name << ": wrote between rows");
              }
          }
        }
}

}  // namespace rankine::tests
