#include "peak.h"

#include <chrono>

#include "kernels.h"

namespace rankine::fused {

#if defined(__AVX512VNNI__) && defined(__GNUC__)

double vpdpbusd_peak() {
  if (kernels_named("avx512") == nullptr) return 0;
  constexpr long kTurns = 1'000'000;
  constexpr double kOperations = 12.0 * 128.0;  // twelve independent instructions of 64 multiplications and additions
  double best = 0;
  for (int repeat = 0; repeat < 10; ++repeat) {
    long turns = kTurns;
    const auto begin = std::chrono::steady_clock::now();
    asm volatile(
        "1:\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm0\n vpdpbusd %%zmm30, %%zmm31, %%zmm1\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm2\n vpdpbusd %%zmm30, %%zmm31, %%zmm3\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm4\n vpdpbusd %%zmm30, %%zmm31, %%zmm5\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm6\n vpdpbusd %%zmm30, %%zmm31, %%zmm7\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm8\n vpdpbusd %%zmm30, %%zmm31, %%zmm9\n"
        "vpdpbusd %%zmm30, %%zmm31, %%zmm10\n vpdpbusd %%zmm30, %%zmm31, %%zmm11\n"
        "dec %[turns]\n jnz 1b\n"
        : [turns] "+r"(turns)
        :
        : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11");
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    const double found = kTurns * kOperations / passed.count();
    if (found > best) best = found;
  }
  return best;
}

#else

double vpdpbusd_peak() { return 0; }

#endif

}  // namespace rankine::fused
