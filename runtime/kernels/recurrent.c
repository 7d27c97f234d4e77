/* The operator of a recurrent layer: Y, Y_h and Y_c of RNN, GRU or LSTM, of valid steps alone.
 *
 * Attributes: cell (enum cell), input_dim, hidden_size, directions, reversed (bit d of direction d), x_layout, y_layout
 * (enum layout), gives (bits: Y, Y_h, Y_c), threads, vectors (8 or 16 lanes; 0 for the widest), rows_first (of the
 * extents: [B, T], else [T, B]), keeps (whether a run's memory is kept for the next one), lists (whether a batch may be
 * one), hides_nan (whether NaN becomes a number where it does in ONNX Runtime's node).
 * Inputs: X, sequence_lens [B] or none, W, R and B in panels (see cells.h), initial_h and initial_c [D, B, H] or none,
 * and the extents of the batch, where X has only valid steps and Y has all.
 * A list is the valid steps of a batch alone, as if they were one row; then Y is one too.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runs.h"

enum layout {
  TIME_MAJOR,  /* [T, B, …] */
  BATCH_MAJOR, /* [B, T, …] */
  VALID,       /* X [N, I], Y [1, N + 1, D H], zeros in the last row */
  NODE         /* Y [T, D, B, H], as ONNX has it */
};

enum { X, LENGTHS, W, R, BIAS, H_0, C_0, EXTENTS, INPUTS };
enum { GIVES_Y = 1, GIVES_H = 2, GIVES_C = 4 };
enum { LARGE = 1 << 23 }; /* bytes of zeros */
enum { MOST = 1 << 24, MOST_ROWS = 0x7fffffff }; /* inputs and units; rows and steps: no size can overflow */

static const size_t GATES[] = {[RNN_TANH] = 1, [RNN_RELU] = 1, [GRU_RESET_AFTER] = 3, [GRU_RESET_BEFORE] = 3,
                               [LSTM] = 4};
static const size_t BIASES[] = {[RNN_TANH] = 1, [RNN_RELU] = 1, [GRU_RESET_AFTER] = 4, [GRU_RESET_BEFORE] = 3,
                                [LSTM] = 4};

/* Memory that a run works in; the next run of the same operator takes it over. */
struct room {
  size_t bytes;
  _Alignas(64) char place[];
};

struct recurrent {
  const struct vectors *vectors;
  size_t cell, input_dim, hidden, directions, reversed, x_layout, y_layout, gives, threads, rows_first, keeps, lists,
      hides_nan;
  _Atomic(struct room *) spare;
};

static struct room *take_room(struct recurrent *kernel, size_t bytes) {
  struct room *room = atomic_exchange(&kernel->spare, NULL);
  if (room && room->bytes >= bytes) return room;
  free(room);
  room = aligned_alloc(64, (sizeof *room + bytes + 63) & ~(size_t)63);
  if (room) room->bytes = bytes;
  return room;
}

static void leave_room(struct recurrent *kernel, struct room *room) {
  free(kernel->keeps ? atomic_exchange(&kernel->spare, room) : room);
}

static const struct vectors *vectors_of(size_t lanes) {
  __builtin_cpu_init();
  const int narrow = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const int wide = narrow && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl");
  if (wide && (lanes == 0 || lanes == 16)) return &seqport_avx512;
  return narrow && (lanes == 0 || lanes == 8) ? &seqport_avx2 : NULL;
}

static void destroy(void *of) {
  struct recurrent *kernel = of;
  free(atomic_load(&kernel->spare));
  free(kernel);
}

static OrtStatus *read_attributes(const OrtKernelInfo *info, struct recurrent *kernel) {
  size_t lanes;
  TRY(seqport_attribute(info, "cell", &kernel->cell));
  TRY(seqport_attribute(info, "input_dim", &kernel->input_dim));
  TRY(seqport_attribute(info, "hidden_size", &kernel->hidden));
  TRY(seqport_attribute(info, "directions", &kernel->directions));
  TRY(seqport_attribute(info, "reversed", &kernel->reversed));
  TRY(seqport_attribute(info, "x_layout", &kernel->x_layout));
  TRY(seqport_attribute(info, "y_layout", &kernel->y_layout));
  TRY(seqport_attribute(info, "gives", &kernel->gives));
  TRY(seqport_attribute(info, "threads", &kernel->threads));
  TRY(seqport_attribute(info, "rows_first", &kernel->rows_first));
  TRY(seqport_attribute(info, "keeps", &kernel->keeps));
  TRY(seqport_attribute(info, "lists", &kernel->lists));
  TRY(seqport_attribute(info, "hides_nan", &kernel->hides_nan));
  TRY(seqport_attribute(info, "vectors", &lanes));
  kernel->vectors = vectors_of(lanes);
  const int known = kernel->cell <= LSTM && kernel->directions - 1 < 2 && kernel->x_layout <= VALID &&
                    kernel->y_layout <= NODE && kernel->vectors;
  if (!known || kernel->input_dim - 1 >= MOST || kernel->hidden - 1 >= MOST || !kernel->threads)
    return seqport_refuse("this processor or this version of seqport does not know such a layer");
  if (kernel->threads > MOST_MEMBERS) kernel->threads = MOST_MEMBERS;
  return NULL;
}

static OrtStatus *create(const OrtCustomOp *op, const void *table, const OrtKernelInfo *info, void **made) {
  (void)op, (void)table;
  struct recurrent *kernel = calloc(1, sizeof *kernel);
  if (!kernel) return seqport_refuse("out of memory");
  OrtStatus *status = read_attributes(info, kernel);
  if (status)
    destroy(kernel);
  else
    *made = kernel;
  return status;
}

/* The sizes of one run, and where its tensors are. */
struct batch {
  const struct recurrent *kernel;
  struct tensor in[INPUTS];
  const int32_t *lengths; /* NULL where every row has all steps */
  size_t rows, steps, total;
  int listed;
  enum layout x_layout, y_layout; /* in memory: of a list VALID */
  float *y, *h_T, *c_T;           /* NULL where nobody reads them */
};

static size_t length_of(const struct batch *batch, size_t row) {
  return batch->lengths ? (size_t)batch->lengths[row] : batch->steps;
}

static OrtStatus *check_state(const struct batch *batch, const struct tensor *state, const char *name) {
  const struct recurrent *kernel = batch->kernel;
  if (!state->given) return NULL;
  if (state->rank != 3 || (size_t)state->shape[0] != kernel->directions || (size_t)state->shape[1] != batch->rows ||
      (size_t)state->shape[2] != kernel->hidden)
    return seqport_refuse("Input %s must have shape {%zu,%zu,%zu}", name, kernel->directions, batch->rows,
                          kernel->hidden);
  return NULL;
}

/* The rows and steps of X, and whether it is a list. */
static OrtStatus *read_extents(struct batch *batch) {
  const struct recurrent *kernel = batch->kernel;
  const struct tensor *x = &batch->in[X], *lengths = &batch->in[LENGTHS], *extents = &batch->in[EXTENTS];
  size_t rows = batch->rows;
  if (kernel->x_layout != VALID) {
    rows = (size_t)x->shape[kernel->x_layout != BATCH_MAJOR];
    batch->steps = (size_t)x->shape[kernel->x_layout == BATCH_MAJOR];
  } else if (extents->given) {
    if (extents->rank != 1 || extents->shape[0] != 2) return seqport_refuse("expected two extents");
    const int64_t *extent = extents->data;
    rows = (size_t)extent[kernel->rows_first ? 0 : 1];
    batch->steps = (size_t)extent[kernel->rows_first ? 1 : 0];
  } else {
    for (size_t b = 0; b < rows; b++)
      if (batch->lengths[b] > 0 && (size_t)batch->lengths[b] > batch->steps) batch->steps = (size_t)batch->lengths[b];
  }
  batch->listed = kernel->lists && lengths->given && rows == 1 && batch->rows != 1;
  if (!batch->listed) batch->rows = rows;
  return NULL;
}

static OrtStatus *read_inputs(const OrtKernelContext *context, struct batch *batch) {
  const struct recurrent *kernel = batch->kernel;
  TRY(seqport_inputs(context, batch->in, INPUTS));
  const struct tensor *x = &batch->in[X], *lengths = &batch->in[LENGTHS];
  const int valid = kernel->x_layout == VALID;
  if (x->rank < 2 || (!valid && x->rank != 3) || (size_t)x->shape[x->rank - 1] != kernel->input_dim)
    return seqport_refuse("a recurrent layer takes %zu features, but got %lld", kernel->input_dim,
                          x->rank ? (long long)x->shape[x->rank - 1] : 0LL);
  if (lengths->given ? lengths->rank != 1 : valid) return seqport_refuse("sequence_lens is expected to be [B]");
  batch->lengths = lengths->data;
  if (lengths->given) batch->rows = (size_t)lengths->shape[0];
  TRY(read_extents(batch));
  if (batch->rows > MOST_ROWS || batch->steps > MOST_ROWS)
    return seqport_refuse("%zu rows of %zu steps are too many", batch->rows, batch->steps);
  batch->total = batch->rows * batch->steps;
  if (lengths->given) TRY(seqport_total(lengths, batch->rows, batch->steps, &batch->total));
  const size_t given = valid ? (size_t)x->shape[x->rank - 2] : batch->listed ? batch->steps : batch->total;
  if (given - batch->total > (size_t)valid) /* behind valid steps may stand one that is padded */
    return seqport_refuse("%zu valid steps, but the lengths add up to %zu", given, batch->total);
  batch->x_layout = batch->listed ? VALID : kernel->x_layout;
  batch->y_layout = batch->listed ? VALID : kernel->y_layout;
  TRY(check_state(batch, &batch->in[H_0], "initial_h"));
  return check_state(batch, &batch->in[C_0], "initial_c");
}

static OrtStatus *make_outputs(OrtKernelContext *context, struct batch *batch) {
  const struct recurrent *kernel = batch->kernel;
  const int64_t D = (int64_t)kernel->directions, H = (int64_t)kernel->hidden, N = (int64_t)batch->total;
  const int64_t B = batch->listed ? 1 : (int64_t)batch->rows, T = batch->listed ? N : (int64_t)batch->steps;
  const int64_t shapes[][4] = {
      [TIME_MAJOR] = {T, B, D * H}, [BATCH_MAJOR] = {B, T, D * H}, [VALID] = {1, N + 1, D * H}, [NODE] = {T, D, B, H}};
  const int64_t state[] = {D, (int64_t)batch->rows, H};
  if (kernel->gives & GIVES_Y)
    TRY(seqport_output(context, 0, shapes[kernel->y_layout], kernel->y_layout == NODE ? 4 : 3, &batch->y));
  if (kernel->gives & GIVES_H) TRY(seqport_output(context, 1, state, 3, &batch->h_T));
  if (kernel->gives & GIVES_C) TRY(seqport_output(context, 2, state, 3, &batch->c_T));
  return NULL;
}

/* order: the rows, the longest first, those of one length as they came; count: steps + 2 numbers to work in */
static void sort(const struct batch *batch, size_t *order, size_t *count) {
  memset(count, 0, (batch->steps + 2) * sizeof *count);
  for (size_t b = 0; b < batch->rows; b++) count[batch->steps - length_of(batch, b) + 1]++;
  for (size_t s = 1; s <= batch->steps; s++) count[s] += count[s - 1];
  for (size_t b = 0; b < batch->rows; b++) order[count[batch->steps - length_of(batch, b)]++] = b;
}

static const float *x_of(const struct batch *batch, size_t row, size_t valid_before) {
  const size_t dim = batch->kernel->input_dim;
  switch (batch->x_layout) {
    case TIME_MAJOR: return (const float *)batch->in[X].data + row * dim;
    case BATCH_MAJOR: return (const float *)batch->in[X].data + row * batch->steps * dim;
    default: return (const float *)batch->in[X].data + valid_before * dim;
  }
}

static float *y_of(const struct batch *batch, size_t row, size_t direction, size_t valid_before) {
  const size_t D = batch->kernel->directions, H = batch->kernel->hidden;
  switch (batch->y_layout) {
    case TIME_MAJOR: return batch->y + (row * D + direction) * H;
    case BATCH_MAJOR: return batch->y + (row * batch->steps * D + direction) * H;
    case VALID: return batch->y + (valid_before * D + direction) * H;
    default: return batch->y + (direction * batch->rows + row) * H;
  }
}

/* The rows of one direction in order. valid_before: [rows] */
static void list(const struct batch *batch, size_t direction, const size_t *order, const size_t *valid_before,
                 struct sequence *sequences) {
  const struct recurrent *kernel = batch->kernel;
  const size_t H = kernel->hidden, D = kernel->directions, over_rows = batch->rows;
  const ptrdiff_t x_apart = (ptrdiff_t)(kernel->input_dim * (batch->x_layout == TIME_MAJOR ? over_rows : 1));
  const int by_rows = batch->y_layout == TIME_MAJOR || batch->y_layout == NODE;
  const ptrdiff_t y_apart = (ptrdiff_t)(D * H * (by_rows ? over_rows : 1));
  const int reversed = kernel->reversed >> direction & 1;
  const int large = (batch->rows * batch->steps - batch->total) * D * H * sizeof(float) > LARGE;
  const float *h_0 = batch->in[H_0].data, *c_0 = batch->in[C_0].data;
  for (size_t i = 0; i < batch->rows; i++) {
    const size_t row = order[i], steps = length_of(batch, row), at = (direction * batch->rows + row) * H;
    const ptrdiff_t begin = reversed && steps ? (ptrdiff_t)steps - 1 : 0;
    float *y = batch->y ? y_of(batch, row, direction, valid_before[row]) : NULL;
    const size_t padded = y && batch->y_layout != VALID ? batch->steps - steps : 0;
    sequences[i] = (struct sequence){.steps = steps,
                                     .x = x_of(batch, row, valid_before[row]) + begin * x_apart,
                                     .x_apart = reversed ? -x_apart : x_apart,
                                     .y = y ? y + begin * y_apart : NULL,
                                     .y_apart = reversed ? -y_apart : y_apart,
                                     .padding = padded ? y + (ptrdiff_t)steps * y_apart : NULL,
                                     .padded = padded,
                                     .padding_apart = y_apart,
                                     .padding_large = large,
                                     .h_0 = h_0 ? h_0 + at : NULL,
                                     .c_0 = c_0 ? c_0 + at : NULL,
                                     .h_T = batch->h_T ? batch->h_T + at : NULL,
                                     .c_T = batch->c_T ? batch->c_T + at : NULL};
  }
}

/* Panels of the weights have as many numbers as the layers take from them. */
static OrtStatus *check_weights(const struct batch *batch, size_t blocks) {
  const struct recurrent *kernel = batch->kernel;
  const size_t units = kernel->directions * blocks * PANEL, gates = units * GATES[kernel->cell];
  if (batch->in[W].count != gates * kernel->input_dim || batch->in[R].count != gates * kernel->hidden ||
      batch->in[BIAS].count != units * BIASES[kernel->cell])
    return seqport_refuse("the weights do not fit a layer of %zu inputs and %zu units", kernel->input_dim,
                          kernel->hidden);
  return NULL;
}

static OrtStatus *compute(void *of, OrtKernelContext *context) {
  struct recurrent *kernel = of;
  struct batch batch = {.kernel = kernel};
  TRY(read_inputs(context, &batch));
  TRY(make_outputs(context, &batch));

  const size_t blocks = (kernel->hidden + PANEL - 1) / PANEL, gates = GATES[kernel->cell];
  TRY(check_weights(&batch, blocks));
  struct layer layers[2];
  for (size_t d = 0; d < kernel->directions; d++)
    layers[d] = (struct layer){
        .cell = (enum cell)kernel->cell,
        .hides_nan = (int)kernel->hides_nan,
        .input_dim = kernel->input_dim,
        .hidden = kernel->hidden,
        .gates = gates,
        .blocks = blocks,
        .W = (const float *)batch.in[W].data + d * blocks * gates * kernel->input_dim * PANEL,
        .R = (const float *)batch.in[R].data + d * blocks * gates * kernel->hidden * PANEL,
        .b = (const float *)batch.in[BIAS].data + d * blocks * BIASES[kernel->cell] * PANEL};

  const size_t sequenced = seqport_aligned(kernel->directions * batch.rows * sizeof(struct sequence));
  const size_t numbers = seqport_aligned((2 * batch.rows + batch.steps + 2) * sizeof(size_t));
  const size_t most = seqport_run_room(layers, kernel->directions, batch.rows, kernel->threads, batch.y != NULL);
  struct room *room = take_room(kernel, sequenced + numbers + most);
  if (!room) return seqport_refuse("out of memory for %zu rows of %zu steps", batch.rows, batch.steps);
  struct sequence *sequences = (struct sequence *)room->place;
  size_t *order = (size_t *)(room->place + sequenced), *valid_before = order + batch.rows;
  sort(&batch, order, valid_before + batch.rows);
  size_t before = 0;
  for (size_t b = 0; b < batch.rows; b++) {
    valid_before[b] = before;
    before += length_of(&batch, b);
  }
  for (size_t d = 0; d < kernel->directions; d++)
    list(&batch, d, order, valid_before, sequences + d * batch.rows);
  if (batch.y && kernel->y_layout == VALID) {
    const size_t width = kernel->directions * kernel->hidden;
    memset(batch.y + batch.total * width, 0, width * sizeof *batch.y);
  }

  struct run run = {.vectors = kernel->vectors,
                    .layers = layers,
                    .directions = kernel->directions,
                    .sequences = sequences,
                    .rows = batch.rows,
                    .outputs = batch.y != NULL,
                    .room = room->place + sequenced + numbers};
  OrtStatus *status = seqport_run_all(&run, kernel->threads, context);
  leave_room(kernel, room);
  return status;
}

static const char *name(const OrtCustomOp *op) { return (void)op, "Recurrent"; }
static int input_type(const OrtCustomOp *op, size_t i) {
  return (void)op, i == LENGTHS ? ORT_INT32 : i == EXTENTS ? ORT_INT64 : ORT_FLOAT;
}
static size_t inputs(const OrtCustomOp *op) { return (void)op, INPUTS; }
static int output_type(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_FLOAT; }
static size_t outputs(const OrtCustomOp *op) { return (void)op, 3; }
static int takes(const OrtCustomOp *op, size_t i) {
  return (void)op, i == LENGTHS || i >= H_0 ? ORT_OPTIONAL : ORT_REQUIRED;
}
static int gives(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, ORT_OPTIONAL; }

const OrtCustomOp seqport_recurrent = {COMMON_ANSWERS,
                                       .GetName = name,
                                       .GetInputType = input_type,
                                       .GetInputTypeCount = inputs,
                                       .GetOutputType = output_type,
                                       .GetOutputTypeCount = outputs,
                                       .GetInputCharacteristic = takes,
                                       .GetOutputCharacteristic = gives,
                                       .CreateKernelV2 = create,
                                       .KernelComputeV2 = compute,
                                       .KernelDestroy = destroy};
