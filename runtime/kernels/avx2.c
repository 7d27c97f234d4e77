/* The vector code for AVX2 with fused operations. */
#ifndef __clang__
#pragma GCC target("avx2,fma")
#endif
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#endif

typedef __m256 V;
#define LANES 8
#define load(p) _mm256_loadu_ps(p)
#define store(p, v) _mm256_storeu_ps(p, v)
#define stream(p, v) _mm256_stream_ps(p, v)
#define spread(s) _mm256_set1_ps(s)
#define fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define mul(a, b) _mm256_mul_ps(a, b)
#define add(a, b) _mm256_add_ps(a, b)
#define sub(a, b) _mm256_sub_ps(a, b)
#define div(a, b) _mm256_div_ps(a, b)
#define low(a, b) _mm256_min_ps(a, b)
#define high(a, b) _mm256_max_ps(a, b)
#define TILE(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 3 : (rows) == 3 ? 2 : 1) /* at most 12 of 16 registers hold sums */

#include "steps.h"

const struct vectors seqport_avx2 = {multiply_inputs, step_any, reset_any, zero};

#ifdef __clang__
#pragma clang attribute pop
#endif
