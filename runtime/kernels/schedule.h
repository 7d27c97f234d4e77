/* Runs one direction of a layer over rows of any length: each step computes the rows that are still alive. */
#ifndef SEQPORT_SCHEDULE_H
#define SEQPORT_SCHEDULE_H

#include "cells.h"
#include "crew.h"

/* One row in one direction. */
struct sequence {
  size_t steps;
  const float *x; /* of the first step that is computed */
  ptrdiff_t x_apart;
  float *y; /* NULL where nobody reads the outputs */
  ptrdiff_t y_apart;
  float *padding; /* outputs behind the row's end, which are set to zero; as many as `padded`, or none */
  size_t padded;
  ptrdiff_t padding_apart;
  int padding_large; /* of all rows together: it had better not push everything else out of the cache */
  const float *h_0, *c_0; /* NULL for zeros */
  float *h_T, *c_T;       /* NULL where nobody reads them */
};

/* Bytes up to the next one where any vector may begin. */
static inline size_t seqport_aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Bytes of what `seqport_run` works in; outputs: whether the sequences have y. */
size_t seqport_room(const struct layer *layer, size_t count, int outputs);

/* Runs count sequences, every `apart`-th one of an array that is sorted, the longest first; with a crew, all of its
 * members share each step. */
void seqport_run(const struct vectors *vectors, const struct layer *layer, const struct sequence *sequences,
                 size_t count, size_t apart, int outputs, void *room, struct crew *crew);

#endif
