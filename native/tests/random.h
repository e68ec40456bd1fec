// Numbers that are the same in every run.
#pragma once

#include <cstdint>
#include <vector>

#include "fused/kernels.h"

namespace rankine::tests {

class Random {
 public:
  explicit Random(std::uint32_t seed) : state_(seed * 2'654'435'761u + 1) {}

  std::uint32_t next() {  // xorshift
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  std::size_t below(std::size_t limit) { return (next() >> 4) % limit; }
  float between(float low, float high) {
    return low + (high - low) * static_cast<float>(next() >> 8) * (1.0f / (1 << 24));
  }
  std::vector<float> floats(std::size_t count, float low, float high) {
    std::vector<float> found(count);
    for (float& value : found) value = between(low, high);
    return found;
  }

 private:
  std::uint32_t state_;
};

// Of every instruction set that this machine has.
inline const std::vector<const fused::Kernels*>& all_kernels() {
  static const std::vector<const fused::Kernels*> found = [] {
    std::vector<const fused::Kernels*> known;
    for (const char* name : {"amx", "avx512", "avx2", "portable"})
      if (const fused::Kernels* kernels = fused::kernels_named(name)) known.push_back(kernels);
    return known;
  }();
  return found;
}

inline std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

}  // namespace rankine::tests
