#include "kernels.h"

#include <cstring>

#if defined(__linux__) && defined(__x86_64__)
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

// The kernel gives a process its tiles on request; one that knows nothing of them, or a processor without, refuses.
bool has_amx() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool found = has_avx512() && __builtin_cpu_supports("amx-int8") && __builtin_cpu_supports("amx-tile") &&
                            syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
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
