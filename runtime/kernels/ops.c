/* The operators of the domain "seqport", as ONNX Runtime loads them from a library. */
#include "ops.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

OrtApi seqport_api;

OrtStatus *seqport_refuse(const char *format, ...) {
  char message[240];
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof message, format, values);
  va_end(values);
  return ORT(seqport_api, ort_create_status)(ORT_INVALID_ARGUMENT, message);
}

OrtStatus *seqport_inputs(const OrtKernelContext *context, struct tensor *tensors, size_t count) {
  size_t given;
  TRY(ORT(seqport_api, ort_input_count)(context, &given));
  for (size_t i = 0; i < count; i++) {
    const OrtValue *value = NULL;
    tensors[i] = (struct tensor){0};
    if (i < given) TRY(ORT(seqport_api, ort_input)(context, i, &value));
    if (!value) continue;
    int type;
    TRY(ORT(seqport_api, ort_shape)(value, &type, &tensors[i].shape, &tensors[i].rank));
    TRY(ORT(seqport_api, ort_data)((OrtValue *)value, &tensors[i].data));
    tensors[i].given = 1;
    tensors[i].count = 1;
    for (size_t axis = 0; axis < tensors[i].rank; axis++) tensors[i].count *= (size_t)tensors[i].shape[axis];
  }
  return NULL;
}

OrtStatus *seqport_output(OrtKernelContext *context, size_t index, const int64_t *shape, size_t rank, void *data) {
  OrtValue *value = NULL;
  TRY(ORT(seqport_api, ort_output)(context, index, shape, rank, &value));
  if (!value) return seqport_refuse("output %zu is missing", index);
  return ORT(seqport_api, ort_data)(value, data);
}

OrtStatus *seqport_attribute(const OrtKernelInfo *info, const char *name, size_t *value) {
  int64_t found = 0;
  TRY(ORT(seqport_api, ort_attribute)(info, name, &found));
  *value = (size_t)found;
  return NULL;
}

OrtStatus *seqport_total(const struct tensor *lengths, size_t batch, size_t steps, size_t *total) {
  *total = 0;
  if (lengths->rank != 1 || (size_t)lengths->shape[0] != batch)
    return seqport_refuse("sequence_lens is expected to have one number for each of %zu rows", batch);
  const int32_t *length = lengths->data;
  for (size_t b = 0; b < batch; b++) {
    if (length[b] < 0 || (size_t)length[b] > steps)
      return seqport_refuse("sequence_lens is %d for row %zu, expected 0 to %zu", (int)length[b], b, steps);
    *total += (size_t)length[b];
  }
  return NULL;
}

const char *seqport_on_cpu(const OrtCustomOp *op) { return (void)op, "CPUExecutionProvider"; }
int seqport_required(const OrtCustomOp *op, size_t index) { return (void)op, (void)index, ORT_REQUIRED; }
int seqport_cpu_memory(const OrtCustomOp *op, size_t index) { return (void)op, (void)index, 0; }
int seqport_one(const OrtCustomOp *op) { return (void)op, 1; }
size_t seqport_single(const OrtCustomOp *op) { return (void)op, 1; }
int seqport_any_version(const OrtCustomOp *op) { return (void)op, 0x7fffffff; }

/* Called once for each session's options; sessions may be opened by several threads at once. */
__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options,
                                                                     const OrtApiBase *base) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static OrtCustomOpDomain *domain; /* must outlive every session: it stays as long as the library does */
  const OrtApi api = base->GetApi(ORT_VERSION);
  if (!api) return NULL; /* too old: it will say itself that it does not know the operators */
  OrtStatus *status = NULL;
  pthread_mutex_lock(&lock);
  if (!domain) {
    seqport_api = api;
    static const OrtCustomOp *const ops[] = {&seqport_recurrent, &seqport_places, &seqport_spread};
    OrtCustomOpDomain *made = NULL;
    status = ORT(api, ort_create_domain)("seqport", &made);
    for (size_t i = 0; !status && i < sizeof ops / sizeof *ops; i++) status = ORT(api, ort_domain_add)(made, ops[i]);
    if (!status) domain = made;
  }
  pthread_mutex_unlock(&lock);
  return status ? status : ORT(api, ort_add_domain)(options, domain);
}
