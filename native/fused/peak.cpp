#include "peak.h"

#include <chrono>
#include <cstdint>

#include "kernels.h"

namespace rankine::fused {

#if defined(__AVX512VNNI__) && defined(__GNUC__)
namespace {

// The most operations a second of some runs of a loop.
template <class Loop>
double best_of(long turns, double operations, Loop loop) {
  double best = 0;
  for (int repeat = 0; repeat < 10; ++repeat) {
    const auto begin = std::chrono::steady_clock::now();
    loop(turns);
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    const double found = static_cast<double>(turns) * operations / passed.count();
    if (found > best) best = found;
  }
  return best;
}

double vpdpbusd_peak() {
  // Twelve independent instructions of 64 multiplications and additions.
  return best_of(1'000'000, 12.0 * 128.0, [](long turns) {
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
  });
}

double tdpbusd_peak() {
  // Four independent instructions of 16 by 16 by 64 multiplications and additions.
  static const TileConfiguration configuration;
  asm volatile("ldtilecfg %[configuration]" : : [configuration] "m"(configuration));
  const double found = best_of(200'000, 4.0 * 32'768.0, [](long turns) {
    asm volatile(
        "1:\n"
        "tdpbusd %%tmm6, %%tmm4, %%tmm0\n tdpbusd %%tmm7, %%tmm4, %%tmm1\n"
        "tdpbusd %%tmm6, %%tmm5, %%tmm2\n tdpbusd %%tmm7, %%tmm5, %%tmm3\n"
        "dec %[turns]\n jnz 1b\n"
        : [turns] "+r"(turns)
        :
        : "cc");
  });
  asm volatile("tilerelease");
  return found;
}

}  // namespace

Peak int8_peak() {
  if (kernels_named("amx") != nullptr) return {"tdpbusd", tdpbusd_peak()};
  if (kernels_named("avx512") != nullptr) return {"vpdpbusd", vpdpbusd_peak()};
  return {nullptr, 0};
}

#else

Peak int8_peak() { return {nullptr, 0}; }

#endif

}  // namespace rankine::fused
