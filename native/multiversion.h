// One source, several instruction sets: the dynamic loader picks the best clone once, when the module is loaded.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define RANKINE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RANKINE_CLONES  // other compilers and architectures: one baseline version
#endif

#if defined(__GNUC__)
#define RANKINE_INLINE inline __attribute__((always_inline))
#define RANKINE_INLINE_LAMBDA __attribute__((always_inline))
#define RANKINE_RESTRICT __restrict__
#define RANKINE_PREFETCH(address) __builtin_prefetch(address)
#define RANKINE_PREFETCH_FAR(address) __builtin_prefetch(address, 0, 2)  // into the second cache
#else
#define RANKINE_INLINE inline
#define RANKINE_INLINE_LAMBDA
#define RANKINE_RESTRICT
#define RANKINE_PREFETCH(address) static_cast<void>(address)
#define RANKINE_PREFETCH_FAR(address) static_cast<void>(address)
#endif

#if defined(__GNUC__) && !defined(__clang__)
#define RANKINE_KEEP_LOOP _Pragma("GCC unroll 1")
#else
#define RANKINE_KEEP_LOOP
#endif

// Unrolls a loop of few turns whole, so that arrays that it indexes can stay in registers.
#if defined(__GNUC__) && !defined(__clang__)
#define RANKINE_UNROLL _Pragma("GCC unroll 32")
#elif defined(__clang__)
#define RANKINE_UNROLL _Pragma("unroll")
#else
#define RANKINE_UNROLL
#endif

// The turns of the loop that follows do not depend on each other, also where it writes to what it reads.
#if defined(__GNUC__) && !defined(__clang__)
#define RANKINE_INDEPENDENT _Pragma("GCC ivdep")
#elif defined(__clang__)
#define RANKINE_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define RANKINE_INDEPENDENT
#endif
