/* One run of a layer: which threads take which rows, or which part of each step. */
#ifndef SEQPORT_RUNS_H
#define SEQPORT_RUNS_H

#include "ops.h"
#include "schedule.h"

struct run {
  const struct vectors *vectors;
  const struct layer *layers; /* one a direction, of the same sizes */
  size_t directions;
  const struct sequence *sequences; /* [directions, rows], the longest first */
  size_t rows;
  int outputs; /* whether the sequences have y */
  void *room;
};

/* Bytes of `room` that are enough for rows of any length. */
size_t seqport_run_room(const struct layer *layer, size_t directions, size_t rows, size_t threads, int outputs);

OrtStatus *seqport_run_all(const struct run *run, size_t threads, const OrtKernelContext *context);

#endif
