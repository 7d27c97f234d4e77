/* Where the valid steps of a padded batch are, and how what was made of them gets back to their places.
 *
 * The valid steps stand row after row of the batch, and behind the last of them what stands at padded steps.
 */
#include <stdlib.h>
#include <string.h>

#include "ops.h"

struct places {
  size_t batch_major; /* of the padded batch: [B, T], else [T, B] */
  size_t of_valid;    /* the places of the valid steps in the flat batch, [N]; else of every step among those, [B, T] */
};

static OrtStatus *create(const OrtCustomOp *op, const void *table, const OrtKernelInfo *info, void **made) {
  (void)op, (void)table;
  struct places *kernel = calloc(1, sizeof *kernel);
  if (!kernel) return seqport_refuse("out of memory");
  *made = kernel;
  TRY(seqport_attribute(info, "batch_major", &kernel->batch_major));
  return seqport_attribute(info, "of_valid", &kernel->of_valid);
}

static void destroy(void *kernel) { free(kernel); }

/* lengths [B], and T as [1] */
static OrtStatus *extents(const struct tensor *lengths, const struct tensor *extent, size_t *batch, size_t *steps,
                          size_t *total) {
  const int64_t count = extent->rank == 1 && extent->shape[0] == 1 ? *(const int64_t *)extent->data : -1;
  if (lengths->rank != 1 || count < 0) return seqport_refuse("expected lengths [B] and one number of steps");
  *batch = (size_t)lengths->shape[0];
  *steps = (size_t)count;
  return seqport_total(lengths, *batch, *steps, total);
}

static OrtStatus *compute_places(void *of, OrtKernelContext *context) {
  const struct places *kernel = of;
  struct tensor in[2];
  size_t batch = 0, steps = 0, total = 0;
  TRY(seqport_inputs(context, in, 2));
  TRY(extents(&in[0], &in[1], &batch, &steps, &total));
  const int32_t *lengths = in[0].data;
  const size_t by_row = kernel->batch_major ? steps : 1, by_step = kernel->batch_major ? 1 : batch;
  int64_t *place;
  if (kernel->of_valid) {
    const int64_t shape[] = {(int64_t)total};
    TRY(seqport_output(context, 0, shape, 1, &place));
    for (size_t b = 0; b < batch; b++)
      for (size_t t = 0; t < (size_t)lengths[b]; t++) *place++ = (int64_t)(b * by_row + t * by_step);
    return NULL;
  }
  const int64_t rows = (int64_t)batch, columns = (int64_t)steps;
  const int64_t shape[] = {kernel->batch_major ? rows : columns, kernel->batch_major ? columns : rows};
  TRY(seqport_output(context, 0, shape, 2, &place));
  size_t next = 0;
  for (size_t b = 0; b < batch; b++)
    for (size_t t = 0; t < steps; t++)
      place[b * by_row + t * by_step] = (int64_t)(t < (size_t)lengths[b] ? next++ : total);
  return NULL;
}

/* valid [1, N + 1, F] → [B, T, F] or [T, B, F] */
static OrtStatus *compute_spread(void *of, OrtKernelContext *context) {
  const struct places *kernel = of;
  struct tensor in[3];
  size_t batch = 0, steps = 0, total = 0;
  TRY(seqport_inputs(context, in, 3));
  TRY(extents(&in[1], &in[2], &batch, &steps, &total));
  if (in[0].rank != 3 || (size_t)in[0].shape[1] != total + 1)
    return seqport_refuse("expected %zu valid steps and one that is padded", total);
  const int32_t *lengths = in[1].data;
  const size_t features = (size_t)in[0].shape[2], bytes = features * sizeof(float);
  const int64_t rows = (int64_t)batch, columns = (int64_t)steps;
  const int64_t shape[] = {kernel->batch_major ? rows : columns, kernel->batch_major ? columns : rows,
                           (int64_t)features};
  float *out;
  TRY(seqport_output(context, 0, shape, 3, &out));
  const size_t by_row = (kernel->batch_major ? steps : 1) * features, by_step = (kernel->batch_major ? 1 : batch) * features;
  const float *next = in[0].data, *padded = next + total * features;
  for (size_t b = 0; b < batch; b++) {
    const size_t length = (size_t)lengths[b];
    float *row = out + b * by_row;
    if (kernel->batch_major)
      memcpy(row, next, length * bytes);
    else
      for (size_t t = 0; t < length; t++) memcpy(row + t * by_step, next + t * features, bytes);
    for (size_t t = length; t < steps; t++) memcpy(row + t * by_step, padded, bytes);
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
