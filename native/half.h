// IEEE 754 binary16 to float in integer operations: exact, no F16C needed, and it vectorizes.
#pragma once

#include <bit>
#include <cstdint>

#include "multiversion.h"

namespace rankine {

// A half kept as its bits: nanobind and C++20 have no portable half type.
struct Half {
  std::uint16_t bits;
};

// After F. Giesen, "half_to_float_fast5".  No intermediate value is subnormal, so that it is right even on a thread
// where an engine has switched on flush-to-zero.
RANKINE_INLINE float to_float(Half half) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half.bits & 0x7fffu) << 13;
  const std::uint32_t exponent = magnitude & 0x0f800000u;
  const std::uint32_t rebased = magnitude + (112u << 23);
  const float subnormal = std::bit_cast<float>(magnitude + (113u << 23)) - std::bit_cast<float>(113u << 23);
  const std::uint32_t special = rebased + (112u << 23);  // infinity and NaN
  std::uint32_t value = exponent == 0 ? std::bit_cast<std::uint32_t>(subnormal) : rebased;
  value = exponent == 0x0f800000u ? special : value;
  return std::bit_cast<float>(value | (static_cast<std::uint32_t>(half.bits & 0x8000u) << 16));
}

}  // namespace rankine
