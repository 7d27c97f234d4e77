/* Recurrent cells over rows of any length: what the schedule (schedule.c) asks of the vector code (steps.h).
 *
 * Weights lie in panels of 16 units: panel p of W holds, for k = 0, 1, …, the 16 weights of its units for input k, so
 * that one row's number times 16 neighbours is one vector operation whatever the width of the vectors. The gates of the
 * same 16 units are neighbours: a block of units is GATES panels.
 */
#ifndef SEQPORT_CELLS_H
#define SEQPORT_CELLS_H

#include <stddef.h>

enum { PANEL = 16, TILE_ROWS = 6, TILE_PANELS = 4 };

enum cell { RNN_TANH, RNN_RELU, GRU_RESET_AFTER, GRU_RESET_BEFORE, LSTM };

/* One direction of a layer. */
struct layer {
  enum cell cell;
  int hides_nan;   /* where ONNX Runtime's node turns NaN into a number; else NaN stays NaN */
  size_t input_dim, hidden;
  size_t gates;    /* panels of a block */
  size_t blocks;   /* of 16 units; the last one may be filled with zeros */
  const float *W;  /* [blocks, gates, input_dim, 16] */
  const float *R;  /* [blocks, gates, hidden, 16] */
  const float *b;  /* [blocks, one or more a gate, 16]: see panels.py */
};

/* Outputs at padded steps that are still to be set to zero, row after row. */
struct padding {
  float *to;     /* the next piece, a padded step */
  size_t pieces; /* that are left of its row */
  ptrdiff_t apart;
  size_t width;                       /* floats of a piece */
  int (*next_row)(struct padding *padding); /* 0 where no row has any */
};

/* The rows that one step computes; h and c have blocks * 16 numbers a row. */
struct step {
  const struct layer *layer;
  size_t rows;
  const float *fed;   /* [rows, blocks * gates * 16], W x_t */
  const float *h;     /* [rows, blocks * 16], of the step before */
  float *h_next;      /* the same, of this one */
  float *c;           /* of the LSTM, changed in place; of a GRU with its reset before the product, r * h */
  float *const *y;    /* [rows], where the outputs go too; NULL where nobody reads them */
  struct padding *padding;  /* set to zero bit by bit; NULL for none */
};

struct vectors {
  /* out [count, panels * 16] = x W, for the panels from first to last - 1; x is one pointer a row */
  void (*feed)(const struct layer *layer, const float *const *x, size_t count, size_t first, size_t last, float *out);
  /* One step of the blocks from first to last - 1. */
  void (*step)(const struct step *step, size_t first, size_t last);
  /* What has to be done for all blocks before `step`: r * h of a GRU with its reset before the product. */
  void (*reset)(const struct step *step, size_t first, size_t last);
  /* Sets so many pieces to zero, past the cache: much padding would push everything else out. */
  void (*zero)(struct padding *padding, size_t pieces);
};

extern const struct vectors seqport_avx512, seqport_avx2;

#endif
