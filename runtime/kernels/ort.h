/* The part of ONNX Runtime's C interface that these operators use.
 *
 * ONNX Runtime promises that functions are only ever added at the end of its table, so each is named by its place there.
 * See onnxruntime_c_api.h of ONNX Runtime for all of it.
 */
#ifndef SEQPORT_ORT_H
#define SEQPORT_ORT_H

#include <stddef.h>
#include <stdint.h>

enum { ORT_VERSION = 24 }; /* of the table that is asked for; ONNX Runtime 1.24 is the first to have all of these */

enum { ORT_FLOAT = 1, ORT_INT32 = 6, ORT_INT64 = 7 };
enum { ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };
enum { ORT_INVALID_ARGUMENT = 2 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef void *const *OrtApi; /* the table of functions */

typedef struct OrtApiBase {
  const void *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} OrtApiBase;

/* What an operator says of itself; members up to the version that it states. */
typedef struct OrtCustomOp {
  uint32_t version;
  void *(*CreateKernel)(const struct OrtCustomOp *, const void *api, const OrtKernelInfo *);
  const char *(*GetName)(const struct OrtCustomOp *);
  const char *(*GetExecutionProviderType)(const struct OrtCustomOp *);
  int (*GetInputType)(const struct OrtCustomOp *, size_t);
  size_t (*GetInputTypeCount)(const struct OrtCustomOp *);
  int (*GetOutputType)(const struct OrtCustomOp *, size_t);
  size_t (*GetOutputTypeCount)(const struct OrtCustomOp *);
  void (*KernelCompute)(void *kernel, OrtKernelContext *);
  void (*KernelDestroy)(void *kernel);
  int (*GetInputCharacteristic)(const struct OrtCustomOp *, size_t);
  int (*GetOutputCharacteristic)(const struct OrtCustomOp *, size_t);
  int (*GetInputMemoryType)(const struct OrtCustomOp *, size_t);
  int (*GetVariadicInputMinArity)(const struct OrtCustomOp *);
  int (*GetVariadicInputHomogeneity)(const struct OrtCustomOp *);
  int (*GetVariadicOutputMinArity)(const struct OrtCustomOp *);
  int (*GetVariadicOutputHomogeneity)(const struct OrtCustomOp *);
  OrtStatus *(*CreateKernelV2)(const struct OrtCustomOp *, const void *api, const OrtKernelInfo *, void **kernel);
  OrtStatus *(*KernelComputeV2)(void *kernel, OrtKernelContext *);
  OrtStatus *(*InferOutputShapeFn)(const struct OrtCustomOp *, void *);
  int (*GetStartVersion)(const struct OrtCustomOp *);
  int (*GetEndVersion)(const struct OrtCustomOp *);
  size_t (*GetMayInplace)(int **, int **);
  void (*ReleaseMayInplace)(int *, int *);
  size_t (*GetAliasMap)(int **, int **);
  void (*ReleaseAliasMap)(int *, int *);
} OrtCustomOp;

/* The functions, by their places: ORT(api, name)(...) */
enum ort_place {
  ort_create_status = 0,
  ort_create_domain = 26,
  ort_domain_add = 27,
  ort_add_domain = 28,
  ort_data = 51,
  ort_attribute = 86,
  ort_input_count = 88,
  ort_input = 90,
  ort_output = 91,
  ort_parallel_for = 274,
  ort_shape = 414,
};
typedef OrtStatus *(*ort_create_status_fn)(int code, const char *message);
typedef OrtStatus *(*ort_create_domain_fn)(const char *name, OrtCustomOpDomain **);
typedef OrtStatus *(*ort_domain_add_fn)(OrtCustomOpDomain *, const OrtCustomOp *);
typedef OrtStatus *(*ort_add_domain_fn)(OrtSessionOptions *, OrtCustomOpDomain *);
typedef OrtStatus *(*ort_data_fn)(OrtValue *, void **);
typedef OrtStatus *(*ort_attribute_fn)(const OrtKernelInfo *, const char *, int64_t *);
typedef OrtStatus *(*ort_input_count_fn)(const OrtKernelContext *, size_t *);
typedef OrtStatus *(*ort_input_fn)(const OrtKernelContext *, size_t, const OrtValue **);
typedef OrtStatus *(*ort_output_fn)(OrtKernelContext *, size_t, const int64_t *, size_t, OrtValue **);
typedef OrtStatus *(*ort_parallel_for_fn)(const OrtKernelContext *, void (*)(void *, size_t), size_t, size_t, void *);
typedef OrtStatus *(*ort_shape_fn)(const OrtValue *, int *type, const int64_t **shape, size_t *rank);

#define ORT(api, name) ((name##_fn)(api)[name])

#endif
