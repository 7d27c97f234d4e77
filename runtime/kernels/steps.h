/* The vector code, included once for each width of vectors: see avx2.c and avx512.c, which define
 *   V, LANES, load, store, stream (a store past the cache), spread (one number to all lanes), fma(a, b, c) = a b + c,
 *   mul, add, sub, div, low (minimum), high (maximum), TILE(rows): how many panels a tile of so many rows takes.
 *
 * Sums run over the inputs in order, in runs of RUN that are added up: the order of ONNX Runtime's own products, so
 * that the answers are its own to the last bit. The activations are rational approximations with the coefficients and
 * in the order of ONNX Runtime's, for the same reason.
 */
#include <float.h>
#include <stdint.h>
#include <string.h>

#include "cells.h"

enum { RUN = 256, VECTORS = PANEL / LANES, AT_ONCE = 8 };

#define INLINE static inline __attribute__((always_inline))

/* A tile: out[row][panel] = base[row][panel] + Σ a[row][k] · panels[panel][k], without the base where there is none. */
INLINE void tile(size_t rows, size_t panels, const float *const *a, size_t from, size_t count, const float *weights,
                 size_t apart, const float *base, size_t base_apart, float *out, size_t out_apart) {
  V sum[TILE_ROWS][TILE_PANELS][VECTORS];
  const float *at[TILE_ROWS];
#pragma GCC unroll 8
  for (size_t r = 0; r < rows; r++) {
    at[r] = a[r] + from;
#pragma GCC unroll 8
    for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
      for (size_t v = 0; v < VECTORS; v++) sum[r][p][v] = spread(0.0f);
  }
  const float *w = weights + from * PANEL;
  for (size_t k = 0; k < count; k++, w += PANEL) {
    V column[TILE_PANELS][VECTORS];
#pragma GCC unroll 8
    for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
      for (size_t v = 0; v < VECTORS; v++) column[p][v] = load(w + p * apart + v * LANES);
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++) {
      V one = spread(at[r][k]);
#pragma GCC unroll 8
      for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
        for (size_t v = 0; v < VECTORS; v++) sum[r][p][v] = fma(one, column[p][v], sum[r][p][v]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 8
    for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
      for (size_t v = 0; v < VECTORS; v++) {
        size_t place = p * PANEL + v * LANES;
        V whole = base ? add(load(base + r * base_apart + place), sum[r][p][v]) : sum[r][p][v];
        store(out + r * out_apart + place, whole);
      }
}

/* rows and panels as constants, so that the sums of a tile stay in registers */
#define SIZED(ROWS, PANELS)                                                                                        \
  case (ROWS)*8 + (PANELS):                                                                                        \
    tile(ROWS, PANELS, a, from, count, weights, apart, base, base_apart, out, out_apart);                          \
    break;

static void tile_of(size_t rows, size_t panels, const float *const *a, size_t from, size_t count,
                    const float *weights, size_t apart, const float *base, size_t base_apart, float *out,
                    size_t out_apart) {
  switch (rows * 8 + panels) {
    SIZED(1, 1) SIZED(2, 1) SIZED(3, 1) SIZED(4, 1) SIZED(5, 1) SIZED(6, 1)
    SIZED(1, 2) SIZED(2, 2) SIZED(3, 2)
    SIZED(1, 3) SIZED(2, 3)
    SIZED(1, 4)
#if LANES == 16
    SIZED(4, 2) SIZED(5, 2) SIZED(6, 2)
    SIZED(3, 3) SIZED(4, 3) SIZED(5, 3) SIZED(6, 3)
    SIZED(2, 4) SIZED(3, 4) SIZED(4, 4) SIZED(5, 4) SIZED(6, 4)
#endif
    default: __builtin_unreachable(); /* TILE says no more */
  }
}

/* Any number of panels, over all of the inputs. */
static void product(size_t rows, size_t panels, const float *const *a, size_t inputs, const float *weights,
                    const float *base, size_t base_apart, float *out, size_t out_apart) {
  const size_t most = TILE(rows), apart = inputs * PANEL;
  for (size_t p = 0; p < panels; p += most) {
    const size_t some = panels - p < most ? panels - p : most;
    const float *before = base ? base + p * PANEL : NULL;
    size_t before_apart = base_apart;
    for (size_t from = 0; from < inputs; from += RUN) {
      const size_t count = inputs - from < RUN ? inputs - from : RUN;
      tile_of(rows, some, a, from, count, weights + p * apart, apart, before, before_apart, out + p * PANEL,
              out_apart);
      before = out + p * PANEL;
      before_apart = out_apart;
    }
  }
}

static void multiply_inputs(const struct layer *layer, const float *const *x, size_t count, size_t first, size_t last,
                 float *out) {
  const size_t width = layer->blocks * layer->gates * PANEL;
  for (size_t p = first; p < last; p += TILE_PANELS) {
    const size_t some = last - p < TILE_PANELS ? last - p : TILE_PANELS;
    const float *weights = layer->W + p * layer->input_dim * PANEL;
    for (size_t r = 0; r < count; r += TILE_ROWS) {
      const size_t rows = count - r < TILE_ROWS ? count - r : TILE_ROWS;
      product(rows, some, x + r, layer->input_dim, weights, NULL, 0, out + r * width + p * PANEL, width);
    }
  }
}

/* Eigen's approximations, as ONNX Runtime computes them in its vector code: with fused operations. */
INLINE V logistic(V x) {
  x = low(spread(18.0f), high(spread(-18.0f), x)); /* in this order, NaN stays NaN */
  V s = mul(x, x);
  V p = fma(s, spread(4.37031012579801e-11f), spread(1.15627324459942e-07f));
  p = fma(p, s, spread(6.08574864600143e-05f));
  p = fma(p, s, spread(8.51377133304701e-03f));
  p = fma(p, s, spread(2.48287947061529e-01f));
  V q = fma(s, spread(6.10247389755681e-13f), spread(5.76102136993427e-09f));
  q = fma(q, s, spread(6.29106785017040e-06f));
  q = fma(q, s, spread(1.70198817374094e-03f));
  q = fma(q, s, spread(1.16817656904453e-01f));
  q = fma(q, s, spread(9.93151921023180e-01f));
  return high(spread(0.0f), add(div(mul(p, x), q), spread(0.5f))); /* far below it would be -1e-7 */
}

INLINE V hyperbolic(V x) {
  x = low(spread(9.0f), high(spread(-9.0f), x));
  V s = mul(x, x);
  V p = fma(s, spread(-2.76076847742355e-16f), spread(2.00018790482477e-13f));
  p = fma(p, s, spread(-8.60467152213735e-11f));
  p = fma(p, s, spread(5.12229709037114e-08f));
  p = fma(p, s, spread(1.48572235717979e-05f));
  p = fma(p, s, spread(6.37261928875436e-04f));
  p = fma(p, s, spread(4.89352455891786e-03f));
  V q = fma(s, spread(1.19825839466702e-06f), spread(1.18534705686654e-04f));
  q = fma(q, s, spread(2.26843463243900e-03f));
  q = fma(q, s, spread(4.89352518554385e-03f));
  return div(mul(p, x), q);
}

/* The same quotient as its GRU has it: every operation rounded by itself, other bounds. */
INLINE V quotient(V x) {
  V s = mul(x, x);
  V p = add(mul(s, spread(-2.76076847742355e-16f)), spread(2.00018790482477e-13f));
  p = add(mul(s, p), spread(-8.60467152213735e-11f));
  p = add(mul(s, p), spread(5.12229709037114e-08f));
  p = add(mul(s, p), spread(1.48572235717979e-05f));
  p = add(mul(s, p), spread(6.37261928875436e-04f));
  p = add(mul(s, p), spread(4.89352455891786e-03f));
  V q = add(mul(s, spread(1.19825839466702e-06f)), spread(1.18534705686654e-04f));
  q = add(mul(s, q), spread(2.26843463243900e-03f));
  q = add(mul(s, q), spread(4.89352518554385e-03f));
  return div(mul(x, p), q);
}

INLINE V gru_candidate(V x) { return quotient(low(spread(10.0f), high(spread(-10.0f), x))); }

INLINE V gru_reset(V x) {
  V inside = low(spread(20.0f), high(spread(-20.0f), x));
  return mul(spread(0.5f), add(spread(1.0f), quotient(mul(spread(0.5f), inside))));
}

/* What a gate of LSTM and GRU is computed of. The minimum of NaN and a number is its second operand, whatever that is: a
 * node of ONNX Runtime with a bias clips NaN to the largest number, and one without it keeps NaN. */
INLINE V gate_of(V product, const float *bias, int hides_nan) {
  V x = add(product, load(bias)), largest = spread(FLT_MAX);
  return hides_nan ? low(x, largest) : low(largest, x);
}

INLINE V relu(V x, int hides_nan) { return hides_nan ? high(x, spread(0.0f)) : high(spread(0.0f), x); }

/* One vector of units of one row: `gate` has what the products gave, PANEL numbers a gate, b the biases likewise. */
INLINE V lstm(const float *gate, const float *b, float *c, int hides) {
  V i = logistic(gate_of(load(gate), b, hides));
  V o = logistic(gate_of(load(gate + PANEL), b + PANEL, hides));
  V f = logistic(gate_of(load(gate + 2 * PANEL), b + 2 * PANEL, hides));
  V g = hyperbolic(gate_of(load(gate + 3 * PANEL), b + 3 * PANEL, hides));
  V next = add(mul(load(c), f), mul(i, g));
  store(c, next);
  return mul(hyperbolic(next), o);
}

INLINE V gru(V z, V inner, V h) {
  V n = gru_candidate(inner);
  return add(mul(sub(spread(1.0f), z), n), mul(z, h));
}

/* Outputs of one row and block, where somebody reads them: the last block may hold fewer units. */
INLINE void give(const struct step *step, size_t row, size_t block) {
  if (!step->y) return;
  const size_t left = step->layer->hidden - block * PANEL;
  const float *from = step->h_next + (row * step->layer->blocks + block) * PANEL;
  float *to = step->y[row] + block * PANEL;
  if (left < PANEL)
    memcpy(to, from, left * sizeof *to);
  else
    memcpy(to, from, PANEL * sizeof *to);
}

static void zero(struct padding *padding, size_t pieces) {
  for (; pieces && (padding->pieces || padding->next_row(padding)); pieces--) {
    float *to = padding->to;
    size_t count = padding->width;
    for (; count && (uintptr_t)to % sizeof(V); count--) *to++ = 0.0f;
    for (; count >= LANES; to += LANES, count -= LANES) stream(to, spread(0.0f));
    memset(to, 0, count * sizeof *to);
    padding->to += padding->apart;
    padding->pieces--;
  }
}

/* After each tile: memory takes these while the processor multiplies the next one. */
INLINE void zero_some(const struct step *step) {
  if (step->padding) zero(step->padding, AT_ONCE);
}

INLINE void rows_of(const float *of, size_t width, size_t first, size_t rows, const float **at) {
  for (size_t r = 0; r < rows; r++) at[r] = of + (first + r) * width;
}

INLINE void step_lstm(const struct step *step, size_t first, size_t last, int hides) {
  const struct layer *layer = step->layer;
  const size_t units = layer->blocks * PANEL, width = units * 4;
  float gates[TILE_ROWS][4 * PANEL] __attribute__((aligned(64)));
  const float *h[TILE_ROWS];
  for (size_t block = first; block < last; block++) {
    const float *R = layer->R + block * 4 * layer->hidden * PANEL, *b = layer->b + block * 4 * PANEL;
    for (size_t row = 0; row < step->rows; row += TILE_ROWS) {
      const size_t rows = step->rows - row < TILE_ROWS ? step->rows - row : TILE_ROWS;
      rows_of(step->h, units, row, rows, h);
      product(rows, 4, h, layer->hidden, R, step->fed + row * width + block * 4 * PANEL, width, *gates, 4 * PANEL);
      for (size_t r = 0; r < rows; r++) {
        const size_t at = (row + r) * units + block * PANEL;
        for (size_t v = 0; v < PANEL; v += LANES)
          store(step->h_next + at + v, lstm(gates[r] + v, b + v, step->c + at + v, hides));
        give(step, row + r, block);
      }
      zero_some(step);
    }
  }
}

INLINE void step_gru_after(const struct step *step, size_t first, size_t last, int hides) {
  const struct layer *layer = step->layer;
  const size_t units = layer->blocks * PANEL, width = units * 3;
  /* z and r on top of what was fed; the candidate's part of h on top of its bias, as ONNX Runtime has it */
  float gates[TILE_ROWS][3 * PANEL] __attribute__((aligned(64)));
  float base[TILE_ROWS][3 * PANEL] __attribute__((aligned(64)));
  const float *h[TILE_ROWS];
  for (size_t block = first; block < last; block++) {
    const float *R = layer->R + block * 3 * layer->hidden * PANEL, *b = layer->b + block * 4 * PANEL;
    for (size_t row = 0; row < step->rows; row += TILE_ROWS) {
      const size_t rows = step->rows - row < TILE_ROWS ? step->rows - row : TILE_ROWS;
      rows_of(step->h, units, row, rows, h);
      const float *fed = step->fed + row * width + block * 3 * PANEL;
      for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < PANEL; v += LANES) {
          store(base[r] + v, load(fed + r * width + v));
          store(base[r] + PANEL + v, load(fed + r * width + PANEL + v));
          store(base[r] + 2 * PANEL + v, load(b + 3 * PANEL + v));
        }
      product(rows, 3, h, layer->hidden, R, *base, 3 * PANEL, *gates, 3 * PANEL);
      for (size_t r = 0; r < rows; r++) {
        const size_t at = (row + r) * units + block * PANEL;
        for (size_t v = 0; v < PANEL; v += LANES) {
          V reset = gru_reset(gate_of(load(gates[r] + PANEL + v), b + PANEL + v, hides));
          V inner = add(load(fed + r * width + 2 * PANEL + v), mul(load(gates[r] + 2 * PANEL + v), reset));
          V z = logistic(gate_of(load(gates[r] + v), b + v, hides));
          store(step->h_next + at + v, gru(z, gate_of(inner, b + 2 * PANEL + v, hides), load(step->h + at + v)));
        }
        give(step, row + r, block);
      }
      zero_some(step);
    }
  }
}

/* c = r · h */
INLINE void reset_gru_before(const struct step *step, size_t first, size_t last, int hides) {
  const struct layer *layer = step->layer;
  const size_t units = layer->blocks * PANEL, width = units * 3, panel = layer->hidden * PANEL;
  float gate[TILE_ROWS][PANEL] __attribute__((aligned(64)));
  const float *h[TILE_ROWS];
  for (size_t block = first; block < last; block++) {
    const float *R = layer->R + (block * 3 + 1) * panel, *b = layer->b + (block * 3 + 1) * PANEL;
    for (size_t row = 0; row < step->rows; row += TILE_ROWS) {
      const size_t rows = step->rows - row < TILE_ROWS ? step->rows - row : TILE_ROWS;
      rows_of(step->h, units, row, rows, h);
      product(rows, 1, h, layer->hidden, R, step->fed + row * width + (block * 3 + 1) * PANEL, width, *gate, PANEL);
      for (size_t r = 0; r < rows; r++) {
        const size_t at = (row + r) * units + block * PANEL;
        for (size_t v = 0; v < PANEL; v += LANES)
          store(step->c + at + v, mul(load(step->h + at + v), gru_reset(gate_of(load(gate[r] + v), b + v, hides))));
      }
    }
  }
}

INLINE void step_gru_before(const struct step *step, size_t first, size_t last, int hides) {
  const struct layer *layer = step->layer;
  const size_t units = layer->blocks * PANEL, width = units * 3, panel = layer->hidden * PANEL;
  float update[TILE_ROWS][PANEL] __attribute__((aligned(64))), inner[TILE_ROWS][PANEL] __attribute__((aligned(64)));
  const float *h[TILE_ROWS], *reset[TILE_ROWS];
  for (size_t block = first; block < last; block++) {
    const float *R = layer->R + block * 3 * panel, *b = layer->b + block * 3 * PANEL;
    for (size_t row = 0; row < step->rows; row += TILE_ROWS) {
      const size_t rows = step->rows - row < TILE_ROWS ? step->rows - row : TILE_ROWS;
      const float *fed = step->fed + row * width + block * 3 * PANEL;
      rows_of(step->h, units, row, rows, h);
      rows_of(step->c, units, row, rows, reset);
      product(rows, 1, h, layer->hidden, R, fed, width, *update, PANEL);
      product(rows, 1, reset, layer->hidden, R + 2 * panel, fed + 2 * PANEL, width, *inner, PANEL);
      for (size_t r = 0; r < rows; r++) {
        const size_t at = (row + r) * units + block * PANEL;
        for (size_t v = 0; v < PANEL; v += LANES) {
          V z = logistic(gate_of(load(update[r] + v), b + v, hides));
          V n = gate_of(load(inner[r] + v), b + 2 * PANEL + v, hides);
          store(step->h_next + at + v, gru(z, n, load(step->h + at + v)));
        }
        give(step, row + r, block);
      }
      zero_some(step);
    }
  }
}

INLINE void step_rnn(const struct step *step, size_t first, size_t last, int hides) {
  const struct layer *layer = step->layer;
  const size_t units = layer->blocks * PANEL;
  float sums[TILE_ROWS][TILE_PANELS * PANEL] __attribute__((aligned(64)));
  const float *h[TILE_ROWS];
  for (size_t block = first; block < last; block += TILE_PANELS) {
    const size_t blocks = last - block < TILE_PANELS ? last - block : TILE_PANELS;
    const float *R = layer->R + block * layer->hidden * PANEL, *b = layer->b + block * PANEL;
    for (size_t row = 0; row < step->rows; row += TILE_ROWS) {
      const size_t rows = step->rows - row < TILE_ROWS ? step->rows - row : TILE_ROWS;
      rows_of(step->h, units, row, rows, h);
      product(rows, blocks, h, layer->hidden, R, step->fed + row * units + block * PANEL, units, *sums,
              TILE_PANELS * PANEL);
      for (size_t r = 0; r < rows; r++) {
        float *to = step->h_next + (row + r) * units + block * PANEL;
        for (size_t v = 0; v < blocks * PANEL; v += LANES) {
          V x = add(load(sums[r] + v), load(b + v));
          store(to + v, layer->cell == RNN_TANH ? hyperbolic(x) : relu(x, hides));
        }
        for (size_t p = 0; p < blocks; p++) give(step, row + r, block + p);
      }
      zero_some(step);
    }
  }
}

INLINE void step_of(const struct step *step, size_t first, size_t last, int hides) {
  switch (step->layer->cell) {
    case LSTM: step_lstm(step, first, last, hides); break;
    case GRU_RESET_AFTER: step_gru_after(step, first, last, hides); break;
    case GRU_RESET_BEFORE: step_gru_before(step, first, last, hides); break;
    default: step_rnn(step, first, last, hides);
  }
}

/* What hides NaN is code of its own: the inner loops have no branch for it. */
static void step_any(const struct step *step, size_t first, size_t last) {
  if (step->layer->hides_nan)
    step_of(step, first, last, 1);
  else
    step_of(step, first, last, 0);
}

static void reset_any(const struct step *step, size_t first, size_t last) {
  if (step->layer->hides_nan)
    reset_gru_before(step, first, last, 1);
  else
    reset_gru_before(step, first, last, 0);
}
