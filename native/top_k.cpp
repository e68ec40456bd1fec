#include "top_k.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <vector>

#include "multiversion.h"

namespace rankine {
namespace {

// An unsigned number that orders as the score does; NaN is below every number, both zeros are equal.
RANKINE_INLINE std::uint32_t sortable(float score) {
  const std::uint32_t raw = std::bit_cast<std::uint32_t>(score);
  const std::uint32_t magnitude = raw & 0x7fffffffu;
  const std::uint32_t bits = magnitude == 0 ? 0u : raw;
  const std::uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return magnitude > 0x7f800000u ? 0u : ordered;  // -inf maps to 0x007fffff: nothing else maps to 0
}

// Score above, complement of the position below: all keys differ, so any selection gives the same answer.
RANKINE_CLONES void fill_keys(const float* RANKINE_RESTRICT scores, std::size_t count,
                              std::uint64_t* RANKINE_RESTRICT keys) {
  for (std::size_t i = 0; i < count; ++i)
    keys[i] = (static_cast<std::uint64_t>(sortable(scores[i])) << 32) | (0xffffffffu - static_cast<std::uint32_t>(i));
}

}  // namespace

void top_k(const float* scores, std::size_t count, std::size_t kept, std::int32_t* positions) {
  if (kept == 0) return;
  std::vector<std::uint64_t> keys(count);
  fill_keys(scores, count, keys.data());
  const auto middle = keys.begin() + static_cast<std::ptrdiff_t>(kept);
  if (kept < count) std::nth_element(keys.begin(), middle, keys.end(), std::greater<>());
  std::sort(keys.begin(), middle, std::greater<>());
  for (std::size_t i = 0; i < kept; ++i)
    positions[i] = static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(keys[i]));
}

float sigmoid(float logit) { return 1.0f / (1.0f + std::exp(std::min(-logit, 80.0f))); }

}  // namespace rankine
