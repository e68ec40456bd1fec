#pragma once

namespace rankine::fused {

// INT8 operations a second (two for a multiplication and its addition) of vpdpbusd on registers alone: what a layer can
// be at most.  Zero where the processor does not have it.
double vpdpbusd_peak();

}  // namespace rankine::fused
