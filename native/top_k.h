#pragma once

#include <cstddef>
#include <cstdint>

namespace rankine {

// Positions of the `kept` best of `count` scores, best first; ties by lower position, NaN last.
// kept <= count < 2^31.  May throw std::bad_alloc.
void top_k(const float* scores, std::size_t count, std::size_t kept, std::int32_t* positions);

// 1 / (1 + exp(-logit)), without overflow.
float sigmoid(float logit);

}  // namespace rankine
