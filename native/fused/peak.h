#pragma once

namespace rankine::fused {

struct Peak {
  const char* instruction;  // nullptr: the processor has none that multiplies bytes
  double operations_per_s;
};

// INT8 operations a second (two for a multiplication and its addition) of the fastest instruction on registers alone,
// tdpbusd (AMX) or vpdpbusd (AVX-512 VNNI): what a layer can be at most.
Peak int8_peak();

}  // namespace rankine::fused
