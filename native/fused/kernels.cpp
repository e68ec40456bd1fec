#include "kernels.h"

#include <cstring>

#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rankine::fused {
namespace {

bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

// Linux gives a process its tiles on request; one that is too old refuses.
bool has_amx() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25;  // of leaf 7's edx; not every compiler has names for them
  static const bool found = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return has_avx512() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kTiles) != 0 &&
           (edx & kInt8) != 0 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return found;
#else
  return false;
#endif
}

}  // namespace

const Kernels* kernels_named(const char* name) {
  const Kernels* amx = has_amx() ? amx_kernels() : nullptr;
  const Kernels* avx512 = has_avx512() ? avx512_kernels() : nullptr;
  const Kernels* avx2 = has_avx2() ? avx2_kernels() : nullptr;
  const Kernels* known[] = {amx, avx512, avx2, &portable_kernels()};
  for (const Kernels* kernels : known)
    if (kernels != nullptr && (*name == 0 || std::strcmp(name, kernels->name) == 0)) return kernels;
  return nullptr;
}

}  // namespace rankine::fused
