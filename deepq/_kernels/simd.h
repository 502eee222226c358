/* Instruction sets: which this processor has, and how to compile a part of a file for one. */
#ifndef DEEPQ_SIMD_H
#define DEEPQ_SIMD_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SIMD_PORTABLE = 0, SIMD_AVX2 = 1, SIMD_AVX512 = 2 };

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define DEEPQ_X86 1
#include <immintrin.h>
#define DEEPQ_PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define DEEPQ_BEGIN_AVX2 DEEPQ_PRAGMA(clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function))
#define DEEPQ_BEGIN_AVX512 \
    DEEPQ_PRAGMA(clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512vbmi"))), apply_to = function))
#define DEEPQ_END_TARGET DEEPQ_PRAGMA(clang attribute pop)
#else
#define DEEPQ_BEGIN_AVX2 DEEPQ_PRAGMA(GCC push_options) DEEPQ_PRAGMA(GCC target("avx2,fma"))
#define DEEPQ_BEGIN_AVX512 \
    DEEPQ_PRAGMA(GCC push_options) DEEPQ_PRAGMA(GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512vbmi"))
#define DEEPQ_END_TARGET DEEPQ_PRAGMA(GCC pop_options)
#endif
#endif

/* The best instruction set of this processor. */
static int simd_supported(void) {
#ifdef DEEPQ_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512vbmi") ? SIMD_AVX512 : SIMD_AVX2;
#endif
    return SIMD_PORTABLE;
}

#endif
