/* What the operators share: ONNX Runtime's table of functions, tensors, and the answers to its questions. */
#ifndef SEQPORT_OPS_H
#define SEQPORT_OPS_H

#include "ort.h"

extern OrtApi seqport_api;

#define TRY(call)                       \
  do {                                  \
    OrtStatus *status_ = (call);        \
    if (status_) return status_;        \
  } while (0)

struct tensor {
  int given; /* zero where an optional input is left out */
  void *data;
  const int64_t *shape;
  size_t rank, count; /* of axes, and of numbers */
};

OrtStatus *seqport_refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

OrtStatus *seqport_inputs(const OrtKernelContext *context, struct tensor *tensors, size_t count);

OrtStatus *seqport_output(OrtKernelContext *context, size_t index, const int64_t *shape, size_t rank, void *data);

OrtStatus *seqport_attribute(const OrtKernelInfo *info, const char *name, size_t *value);

/* The sum of lengths from 0 to `steps`; of another length, or of another number of them than rows, an error. */
OrtStatus *seqport_total(const struct tensor *lengths, size_t batch, size_t steps, size_t *total);

extern const OrtCustomOp seqport_recurrent, seqport_places, seqport_spread;

/* Answers that are the same for all operators. */
const char *seqport_on_cpu(const OrtCustomOp *op);
int seqport_required(const OrtCustomOp *op, size_t index);
int seqport_cpu_memory(const OrtCustomOp *op, size_t index);
int seqport_one(const OrtCustomOp *op);
size_t seqport_single(const OrtCustomOp *op);
int seqport_any_version(const OrtCustomOp *op);

#define COMMON_ANSWERS                                                                                              \
  .version = ORT_VERSION, .GetExecutionProviderType = seqport_on_cpu, .GetInputMemoryType = seqport_cpu_memory,      \
  .GetVariadicInputMinArity = seqport_one, .GetVariadicInputHomogeneity = seqport_one,                              \
  .GetVariadicOutputMinArity = seqport_one, .GetVariadicOutputHomogeneity = seqport_one,                            \
  .GetStartVersion = seqport_one, .GetEndVersion = seqport_any_version

#endif
