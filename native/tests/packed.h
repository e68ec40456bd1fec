// Weights as the engine reads them (format.h), from rows of `columns`.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "fused/format.h"
#include "random.h"

namespace rankine::tests {

template <class T>
std::vector<T> packed(const std::vector<T>& weights, std::size_t width, std::size_t columns) {
  constexpr std::size_t kGroup = sizeof(T) == 1 ? 4 : 1;  // consecutive inputs side by side
  const std::size_t depth = round_up(width, kGroup) / kGroup, padded = round_up(columns, fused::kLanes);
  std::vector<T> found;
  found.reserve(depth * kGroup * padded);
  for (std::size_t first = 0; first < padded; first += fused::kPanel)
    for (std::size_t group = 0; group < depth; ++group)
      for (std::size_t n = first; n < std::min<std::size_t>(first + fused::kPanel, padded); ++n)
        for (std::size_t k = group * kGroup; k < (group + 1) * kGroup; ++k)
          found.push_back(k < width && n < columns ? weights[k * columns + n] : T{0});
  return found;
}

}  // namespace rankine::tests
