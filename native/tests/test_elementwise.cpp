// Element by element kernels, reductions, softmax and roundings against double precision, on every instruction set; every
// array ends, or begins, at a page that may not be touched.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "fused/format.h"
#include "guarded.h"
#include "random.h"

namespace rankine::tests {
namespace {

using namespace fused;

constexpr std::size_t kMostBytes = 64 << 10;
constexpr std::size_t kMostCount = 70;
constexpr double kAllowed = 3e-6;  // of the size, and of one

const std::function<double(double, float, float)> kUnaries[] = {
    [](double x, float, float) { return x > 0 ? x : 0; },
    [](double x, float, float) { return 1 / (1 + std::exp(-x)); },
    [](double x, float, float) { return std::tanh(x); },
    [](double x, float, float) { return std::exp(x); },
    [](double x, float, float) { return std::log(x); },
    [](double x, float, float) { return std::sqrt(x); },
    [](double x, float, float) { return -x; },
    [](double x, float, float) { return std::fabs(x); },
    [](double x, float, float) { return std::erf(x); },
    [](double x, float, float) { return 1 / x; },
    [](double x, float, float) { return x != 0 ? 0 : 1; },
    [](double x, float low, float high) { return x < low ? low : x > high ? high : x; },
    [](double x, float slope, float) { return x < 0 ? x * slope : x; },
    [](double x, float, float) { return 0.5 * x * (1 + std::erf(x * std::sqrt(0.5))); },
    [](double x, float factor, float bias) { return x * factor + bias; },
    [](double x, float, float) { return x * x; },
    [](double x, float, float) { return x; },
    [](double x, float, float) { return std::log1p(std::exp(x)); },
    [](double x, float alpha, float) { return x > 0 ? x : alpha * std::expm1(x); },
};
static_assert(std::size(kUnaries) == static_cast<std::size_t>(Unary::kCount));

const std::function<double(double, double)> kBinaries[] = {
    [](double x, double y) { return x + y; },
    [](double x, double y) { return x - y; },
    [](double x, double y) { return x * y; },
    [](double x, double y) { return x / y; },
    [](double x, double y) { return std::max(x, y); },
    [](double x, double y) { return std::min(x, y); },
    [](double x, double y) { return std::pow(x, y); },
    [](double x, double y) { return x < y; },
    [](double x, double y) { return x <= y; },
    [](double x, double y) { return x > y; },
    [](double x, double y) { return x >= y; },
    [](double x, double y) { return x == y; },
    [](double x, double y) { return x != 0 && y != 0; },
    [](double x, double y) { return x != 0 || y != 0; },
    [](double x, double y) { return x < 0 ? x * y : x; },
};
static_assert(std::size(kBinaries) == static_cast<std::size_t>(Binary::kCount));

bool close(double found, double expected) {
  if (std::isnan(expected)) return std::isnan(found);
  return found == expected || std::fabs(found - expected) <= kAllowed * std::max(1.0, std::fabs(expected));
}

std::size_t extent(std::size_t count, std::size_t stride) { return (count - 1) * stride + 1; }

// Some zeros and equal numbers among the others, so that comparisons have every answer.
std::vector<float> numbers(Random& random, std::size_t count) {
  auto found = random.floats(count, -3, 3);
  for (std::size_t i = 0; i < count; i += 5) found[i] = static_cast<float>(i % 3) - 1.0f;
  return found;
}

}  // namespace

TEST(unary_kernels_equal_double_precision_when_counts_and_strides_vary) {
  const Guarded from(kMostBytes), to(kMostBytes);
  for (int kind = 0; kind < static_cast<int>(Unary::kCount); ++kind)
    for (std::size_t count = 1; count <= kMostCount; ++count)
      for (std::size_t step : {0, 1, 3})
        for (std::size_t out_step : {1, 2}) {
          Random random(static_cast<std::uint32_t>(kind * 977 + count));
          const Edge edge = kEdges[count % 2];
          const auto given = numbers(random, extent(count, step));
          const float* a = from.copy(given.data(), given.size(), edge);
          for (const Kernels* kernels : all_kernels()) {
            float* out = to.place<float>(extent(count, out_step), edge);
            kernels->unary(kind, a, step, 0.25f, 0.75f, out, out_step, count);
            for (std::size_t i = 0; i < count; ++i) {
              const double expected = kUnaries[kind](a[i * step], 0.25f, 0.75f);
              CHECK(close(out[i * out_step], expected), kernels->name << ", unary " << kind << " of " << a[i * step] << ": "
                                                                     << out[i * out_step] << " is not " << expected);
            }
          }
        }
}

TEST(binary_kernels_equal_double_precision_when_counts_and_strides_vary) {
  const Guarded left(kMostBytes), right(kMostBytes), to(kMostBytes);
  for (int kind = 0; kind < static_cast<int>(Binary::kCount); ++kind)
    for (std::size_t count = 1; count <= kMostCount; ++count)
      for (std::size_t a_step : {0, 1, 2})
        for (std::size_t b_step : {0, 1, 3}) {
          Random random(static_cast<std::uint32_t>(kind * 977 + count));
          const Edge edge = kEdges[count % 2];
          const auto first = numbers(random, extent(count, a_step)), second = numbers(random, extent(count, b_step));
          const float* a = left.copy(first.data(), first.size(), edge);
          const float* b = right.copy(second.data(), second.size(), edge);
          for (const Kernels* kernels : all_kernels()) {
            const std::size_t out_step = a_step == 2 ? 2 : 1;
            float* out = to.place<float>(extent(count, out_step), edge);
            kernels->binary(kind, a, a_step, b, b_step, out, out_step, count);
            for (std::size_t i = 0; i < count; ++i) {
              const double expected = kBinaries[kind](a[i * a_step], b[i * b_step]);
              CHECK(close(out[i * out_step], expected), kernels->name << ", binary " << kind << " of " << a[i * a_step] << " and "
                                                                     << b[i * b_step] << ": " << out[i * out_step]);
            }
          }
        }
}

TEST(kernels_give_numbers_or_nan_when_arguments_are_extreme) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> given{0.0f, -0.0f, 1e-40f, 1e38f, -1e38f, 100, -100, kInfinity, -kInfinity, kNan, 88.4f, -87.4f};
  for (const Kernels* kernels : all_kernels()) {
    std::vector<float> out(given.size());
    const auto apply = [&](Unary kind) {
      kernels->unary(static_cast<int>(kind), given.data(), 1, 0, 0, out.data(), 1, given.size());
      return out;
    };
    for (Unary kind : {Unary::kSigmoid, Unary::kTanh}) {
      const auto found = apply(kind);
      for (std::size_t i = 0; i < given.size(); ++i)
        CHECK(close(found[i], kUnaries[static_cast<int>(kind)](given[i], 0, 0)), kernels->name << " of " << given[i] << ": " << found[i]);
    }
    CHECK(std::isnan(apply(Unary::kRelu)[9]) && std::isnan(apply(Unary::kExp)[9]), kernels->name << ": NaN is lost");
    CHECK(apply(Unary::kRelu)[8] == 0 && apply(Unary::kRelu)[7] == kInfinity, kernels->name << ": infinity");
  }
}

TEST(reductions_equal_double_precision_when_counts_and_strides_vary) {
  const Guarded from(kMostBytes);
  for (std::size_t count = 1; count <= kMostCount; ++count)
    for (std::size_t stride : {0, 1, 3}) {
      Random random(static_cast<std::uint32_t>(count));
      const auto given = random.floats(extent(count, stride), -1.5f, 1.5f);
      const float* a = from.copy(given.data(), given.size(), kEdges[count % 2]);
      double sum = 0, squares = 0, product = 1, largest = a[0], smallest = a[0];
      for (std::size_t i = 0; i < count; ++i) {
        const double value = a[i * stride];
        sum += value, squares += value * value, product *= value;
        largest = std::max(largest, value), smallest = std::min(smallest, value);
      }
      const double expected[] = {sum, sum / static_cast<double>(count), largest, smallest, squares, std::sqrt(squares), product};
      for (const Kernels* kernels : all_kernels()) {
        for (int kind = 0; kind < static_cast<int>(Reduction::kCount); ++kind) {
          const float found = kernels->reduce(kind, a, stride, count);
          CHECK(std::fabs(found - expected[kind]) <= kAllowed * std::max({1.0, squares, std::fabs(expected[kind])}),
                kernels->name << ", reduction " << kind << " of " << count << ": " << found << " is not " << expected[kind]);
        }
        const float found = kernels->dot(a, stride, a, stride, count);
        CHECK(close(found, squares), kernels->name << ", dot of " << count << ": " << found << " is not " << squares);
      }
    }
}

TEST(softmax_equals_double_precision_when_counts_vary) {
  const Guarded memory(kMostBytes);
  for (std::size_t count = 1; count <= kMostCount; ++count)
    for (bool logarithm : {false, true})
      for (const Kernels* kernels : all_kernels()) {
        const auto given = Random(static_cast<std::uint32_t>(count)).floats(count, -30, 30);
        float* values = memory.copy(given.data(), count, kEdges[count % 2]);
        kernels->softmax(values, count, logarithm);
        double total = 0;
        for (float value : given) total += std::exp(static_cast<double>(value));
        for (std::size_t i = 0; i < count; ++i) {
          const double expected = logarithm ? given[i] - std::log(total) : std::exp(given[i]) / total;
          CHECK(close(values[i], expected), kernels->name << ", softmax of " << count << ": " << values[i] << " is not " << expected);
        }
      }
}

TEST(roundings_are_equal_to_the_bit_when_numbers_are_any) {
  constexpr std::size_t kRows = 3, kGap = 2;
  const Guarded from(kMostBytes), factors(kMostBytes), to(kMostBytes), back(kMostBytes);
  for (std::size_t columns = 1; columns <= 130; ++columns)
    for (Edge edge : kEdges) {
      Random random(static_cast<std::uint32_t>(columns));
      const std::size_t stride = columns + kGap, count = (kRows - 1) * stride + columns;
      auto given = random.floats(count, -4, 4);
      given[random.below(count)] = std::numeric_limits<float>::quiet_NaN();
      given[random.below(count)] = 1e30f;
      const auto steps = random.floats(round_up(columns, kLanes), 1, 90);
      const float* values = from.copy(given.data(), count, edge);
      const float* quant = factors.copy(steps.data(), steps.size(), edge);
      const float zero = static_cast<float>(random.below(256));
      for (const Kernels* kernels : all_kernels()) {
        std::uint8_t* codes = to.place<std::uint8_t>(count, edge);
        std::fill(codes, codes + count, 77);
        kernels->quantize(values, stride, quant, zero, kRows, columns, codes, stride);
        float* floats = back.place<float>(count, edge);
        kernels->dequantize(codes, stride, zero, 0.5f, kRows, columns, floats, stride);
        for (std::size_t i = 0; i < count; ++i) {
          const std::size_t n = i % stride;
          const float value = n < columns ? values[i] * quant[n] : 0;
          const double expected = n >= columns         ? 77
                                  : std::isnan(value)  ? 0
                                                       : std::nearbyint(std::clamp<double>(value, -zero, 255 - zero) + zero);
          CHECK(codes[i] == expected, kernels->name << ", " << values[i] << " becomes " << +codes[i] << ", not " << expected);
          if (n < columns) CHECK(floats[i] == (codes[i] - zero) * 0.5f, kernels->name << ": " << floats[i]);
        }
      }
    }
}

}  // namespace rankine::tests
