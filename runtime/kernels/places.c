/* Where the valid steps of a padded batch are, and how what was made of them gets back to their places.
 *
 * The valid steps stand row after row of the batch, and behind the last of them what stands at padded steps. A batch may
 * also be a list: its valid steps alone, as if they were one row. Then every step stays where it is.
 */
#include <stdlib.h>
#include <string.h>

#include "ops.h"

struct places {
  size_t batch_major; /* of the padded batch: [B, T], else [T, B] */
  size_t of_valid;    /* the places of the valid steps in the flat batch, [N]; else of every step among those, [B, T] */
  size_t rows_first;  /* of the extents: [B, T], else [T, B] */
  size_t lists;       /* whether a batch may be a list */
};

struct batch {
  const int32_t *lengths;
  size_t rows, steps, total;
  int listed;
};

static OrtStatus *create(const OrtCustomOp *op, const void *table, const OrtKernelInfo *info, void **made) {
  (void)op, (void)table;
  struct places *kernel = calloc(1, sizeof *kernel);
  if (!kernel) return seqport_refuse("out of memory");
  OrtStatus *status = seqport_attribute(info, "batch_major", &kernel->batch_major);
  if (!status) status = seqport_attribute(info, "of_valid", &kernel->of_valid);
  if (!status) status = seqport_attribute(info, "rows_first", &kernel->rows_first);
  if (!status) status = seqport_attribute(info, "lists", &kernel->lists);
  if (status)
    free(kernel);
  else
    *made = kernel;
  return status;
}

static void destroy(void *kernel) { free(kernel); }

/* lengths [B], and the extents of the batch, which are 1 and N of a list */
static OrtStatus *read_batch(const struct places *kernel, const struct tensor *lengths, const struct tensor *extents,
                             struct batch *batch) {
  if (lengths->rank != 1 || extents->rank != 1 || extents->shape[0] != 2)
    return seqport_refuse("expected lengths [B], and two extents");
  const int64_t *extent = extents->data;
  batch->lengths = lengths->data;
  batch->rows = (size_t)lengths->shape[0];
  batch->steps = (size_t)extent[kernel->rows_first ? 1 : 0];
  const size_t rows = (size_t)extent[kernel->rows_first ? 0 : 1];
  batch->listed = kernel->lists && rows == 1 && batch->rows != 1;
  TRY(seqport_total(lengths, batch->listed ? batch->rows : rows, batch->steps, &batch->total));
  if (batch->listed && batch->total != batch->steps)
    return seqport_refuse("a list of %zu steps, but the lengths add up to %zu", batch->steps, batch->total);
  return NULL;
}

/* [B, T] or [T, B]; of a list [1, N] or [N, 1] */
static void shape_of(const struct places *kernel, const struct batch *batch, int64_t *shape) {
  const int64_t rows = batch->listed ? 1 : (int64_t)batch->rows, steps = (int64_t)batch->steps;
  shape[0] = kernel->batch_major ? rows : steps;
  shape[1] = kernel->batch_major ? steps : rows;
}

static OrtStatus *compute_places(void *of, OrtKernelContext *context) {
  const struct places *kernel = of;
  struct tensor in[2];
  struct batch batch = {0};
  TRY(seqport_inputs(context, in, 2));
  TRY(read_batch(kernel, &in[0], &in[1], &batch));
  const size_t by_row = kernel->batch_major ? batch.steps : 1, by_step = kernel->batch_major ? 1 : batch.rows;
  int64_t *place;
  if (kernel->of_valid) {
    const int64_t shape[] = {(int64_t)batch.total};
    TRY(seqport_output(context, 0, shape, 1, &place));
    if (batch.listed) {
      for (size_t i = 0; i < batch.total; i++) place[i] = (int64_t)i;
      return NULL;
    }
    for (size_t b = 0; b < batch.rows; b++)
      for (size_t t = 0; t < (size_t)batch.lengths[b]; t++) *place++ = (int64_t)(b * by_row + t * by_step);
    return NULL;
  }
  int64_t shape[2];
  shape_of(kernel, &batch, shape);
  TRY(seqport_output(context, 0, shape, 2, &place));
  if (batch.listed) {
    for (size_t i = 0; i < batch.total; i++) place[i] = (int64_t)i;
    return NULL;
  }
  size_t next = 0;
  for (size_t b = 0; b < batch.rows; b++)
    for (size_t t = 0; t < batch.steps; t++)
      place[b * by_row + t * by_step] = (int64_t)(t < (size_t)batch.lengths[b] ? next++ : batch.total);
  return NULL;
}

/* valid [1, N + 1, F] → [B, T, F] or [T, B, F]; of a list [1, N, F] or [N, 1, F] */
static OrtStatus *compute_spread(void *of, OrtKernelContext *context) {
  const struct places *kernel = of;
  struct tensor in[3];
  struct batch batch = {0};
  TRY(seqport_inputs(context, in, 3));
  TRY(read_batch(kernel, &in[1], &in[2], &batch));
  if (in[0].rank != 3 || in[0].shape[0] != 1 || (size_t)in[0].shape[1] != batch.total + 1)
    return seqport_refuse("expected %zu valid steps and one that is padded", batch.total);
  const size_t features = (size_t)in[0].shape[2], bytes = features * sizeof(float);
  int64_t shape[3] = {0, 0, (int64_t)features};
  shape_of(kernel, &batch, shape);
  float *out;
  TRY(seqport_output(context, 0, shape, 3, &out));
  const float *next = in[0].data, *padded = next + batch.total * features;
  if (batch.listed) {
    memcpy(out, next, batch.total * bytes);
    return NULL;
  }
  const size_t by_row = (kernel->batch_major ? batch.steps : 1) * features;
  const size_t by_step = (kernel->batch_major ? 1 : batch.rows) * features;
  for (size_t b = 0; b < batch.rows; b++) {
    const size_t length = (size_t)batch.lengths[b];
    float *row = out + b * by_row;
    if (kernel->batch_major)
      memcpy(row, next, length * bytes);
    else
      for (size_t t = 0; t < length; t++) memcpy(row + t * by_step, next + t * features, bytes);
    for (size_t t = length; t < batch.steps; t++) memcpy(row + t * by_step, padded, bytes);
    next += length * features;
  }
  return NULL;
}

static const char *places_name(const OrtCustomOp *op) { return (void)op, "Places"; }
static int places_input(const OrtCustomOp *op, size_t i) { return (void)op, i ? ORT_INT64 : ORT_INT32; }
static size_t places_inputs(const OrtCustomOp *op) { return (void)op, 2; }
static int places_output(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_INT64; }

static const char *spread_name(const OrtCustomOp *op) { return (void)op, "Spread"; }
static int spread_input(const OrtCustomOp *op, size_t i) {
  return (void)op, i == 0 ? ORT_FLOAT : i == 1 ? ORT_INT32 : ORT_INT64;
}
static size_t spread_inputs(const OrtCustomOp *op) { return (void)op, 3; }
static int spread_output(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_FLOAT; }

const OrtCustomOp seqport_places = {
    COMMON_ANSWERS, .GetName = places_name, .GetInputType = places_input, .GetInputTypeCount = places_inputs,
    .GetOutputType = places_output, .GetOutputTypeCount = seqport_single, .GetInputCharacteristic = seqport_required,
    .GetOutputCharacteristic = seqport_required, .CreateKernelV2 = create, .KernelComputeV2 = compute_places,
    .KernelDestroy = destroy};

const OrtCustomOp seqport_spread = {
    COMMON_ANSWERS, .GetName = spread_name, .GetInputType = spread_input, .GetInputTypeCount = spread_inputs,
    .GetOutputType = spread_output, .GetOutputTypeCount = seqport_single, .GetInputCharacteristic = seqport_required,
    .GetOutputCharacteristic = seqport_required, .CreateKernelV2 = create, .KernelComputeV2 = compute_spread,
    .KernelDestroy = destroy};
