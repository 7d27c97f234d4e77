/* The vector code for AVX-512. */
#ifndef __clang__
#pragma GCC target("avx512f,avx512dq,avx512vl,fma")
#endif
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,fma"))), apply_to = function)
#endif

typedef __m512 V;
#define LANES 16
#define load(p) _mm512_loadu_ps(p)
#define store(p, v) _mm512_storeu_ps(p, v)
#define stream(p, v) _mm512_stream_ps(p, v)
#define spread(s) _mm512_set1_ps(s)
#define fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define mul(a, b) _mm512_mul_ps(a, b)
#define add(a, b) _mm512_add_ps(a, b)
#define sub(a, b) _mm512_sub_ps(a, b)
#define div(a, b) _mm512_div_ps(a, b)
#define low(a, b) _mm512_min_ps(a, b)
#define high(a, b) _mm512_max_ps(a, b)
#define TILE(rows) 4 /* 24 of 32 registers hold sums */

#include "steps.h"

const struct vectors seqport_avx512 = {multiply_inputs, step_any, reset_any, zero};

#ifdef __clang__
#pragma clang attribute pop
#endif
