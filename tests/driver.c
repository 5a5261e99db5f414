/* A CUDA driver for one GPU that is not there: memory is the host's, launches are written to a log, all else does
   nothing and succeeds. With it the host's side of kernels/cuda runs on machines without a GPU: compiling, the cache,
   launches, graphs, transfers. NUMBANET_DRIVER: this library; NUMBANET_LOG: the log; NUMBANET_FREE: bytes free. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef unsigned long long Pointer;

enum { SUCCESS = 0, INVALID = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500 };
enum { MAX_THREADS = 1, SHARED = 8, WARP = 10, MULTIPROCESSORS = 16, MAJOR = 75, MINOR = 76, COOPERATIVE = 95 };
enum { TOGETHER = 2 }; /* the launch attribute of cooperative kernels */

static void say(const char *what, const unsigned *blocks, const unsigned *threads, void **arguments) {
    FILE *log = fopen(getenv("NUMBANET_LOG"), "a");
    fprintf(log, "%s", what);
    if (blocks) fprintf(log, " %u %u", *blocks, *threads);
    for (int k = 2; arguments && k < 6; k++) fprintf(log, " %lld", *(long long *)arguments[k]);
    fprintf(log, "\n");
    fclose(log);
}

static void *something(void) { return malloc(64); } /* a handle */

static size_t left(void) {
    const char *free_bytes = getenv("NUMBANET_FREE");
    return free_bytes ? strtoull(free_bytes, NULL, 10) : 8ull << 30;
}

static Result nothing(void) { return SUCCESS; }

/* the device and its context */
static void *context;
static __thread void *current;
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGet(int *device, int number) { *device = 0; return SUCCESS; }
Result cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Absent GPU", size); return SUCCESS; }
Result cuDeviceGetUuid(void *uuid, int device) { memset(uuid, 1, 16); return SUCCESS; }
Result cuDeviceTotalMem(size_t *bytes, int device) { *bytes = 16ull << 30; return SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == MAJOR ? 9 : attribute == MINOR ? 0 : attribute == MULTIPROCESSORS ? 132 :
             attribute == WARP ? 32 : attribute == SHARED ? 49152 : attribute == COOPERATIVE ? 1 : 1024;
    return SUCCESS;
}
Result cuDevicePrimaryCtxRetain(void **found, int device) {
    if (!context) context = something();
    *found = context;
    return SUCCESS;
}
Result cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return SUCCESS; }
Result cuCtxGetCurrent(void **found) { *found = current; return SUCCESS; }
Result cuCtxSetCurrent(void *given) { current = given; return SUCCESS; }
Result cuCtxPushCurrent(void *given) { current = given; return SUCCESS; }
Result cuCtxPopCurrent(void **found) { *found = current; return SUCCESS; }
Result cuCtxGetDevice(int *device) { *device = 0; return SUCCESS; }
Result cuCtxGetApiVersion(void *given, unsigned *version) { *version = 13000; return SUCCESS; }

/* memory */
Result cuMemGetInfo(size_t *free_bytes, size_t *total) { *free_bytes = left(); *total = 16ull << 30; return SUCCESS; }
Result cuMemAlloc(Pointer *found, size_t bytes) {
    if (bytes > left()) return OUT_OF_MEMORY;
    *found = (Pointer)aligned_alloc(256, (bytes + 255) / 256 * 256);
    memset((void *)*found, 0xAB, bytes); /* nobody may count on zeros */
    return SUCCESS;
}
Result cuMemFree(Pointer given) { return SUCCESS; } /* kept, so that no address is given twice */
Result cuMemHostAlloc(void **found, size_t bytes, unsigned flags) {
    *found = aligned_alloc(256, (bytes + 255) / 256 * 256);
    say("pinned", NULL, NULL, NULL);
    return SUCCESS;
}
static Result copy(void *to, const void *from, size_t bytes) { memcpy(to, from, bytes); return SUCCESS; }
Result cuMemcpyHtoD(Pointer to, const void *from, size_t bytes) { return copy((void *)to, from, bytes); }
Result cuMemcpyHtoDAsync(Pointer to, const void *from, size_t bytes, void *stream) {
    say("copy", NULL, NULL, NULL);
    return copy((void *)to, from, bytes);
}
Result cuMemcpyDtoH(void *to, Pointer from, size_t bytes) { return copy(to, (void *)from, bytes); }
Result cuMemcpyDtoHAsync(void *to, Pointer from, size_t bytes, void *stream) { return copy(to, (void *)from, bytes); }
Result cuMemsetD8(Pointer to, unsigned char value, size_t bytes) { memset((void *)to, value, bytes); return SUCCESS; }

/* streams, events, code */
Result cuStreamCreate(void **found, unsigned flags) { *found = something(); return SUCCESS; }
Result cuStreamGetCtx(void *stream, void **found) { *found = context; return SUCCESS; }
Result cuStreamGetDevice(void *stream, int *device) { *device = 0; return SUCCESS; }
Result cuEventCreate(void **found, unsigned flags) { *found = something(); return SUCCESS; }
Result cuLibraryLoadData(void **found, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
    *found = something();
    return SUCCESS;
}
Result cuLibraryGetKernel(void **found, void *library, const char *name) { *found = something(); return SUCCESS; }
Result cuLibraryGetModule(void **found, void *library) { *found = something(); return SUCCESS; }
Result cuKernelGetFunction(void **found, void *kernel) { *found = something(); return SUCCESS; }
Result cuModuleLoadDataEx(void **found, const void *code, unsigned n, void *a, void *b) {
    *found = something();
    return SUCCESS;
}
Result cuModuleGetFunction(void **found, void *module, const char *name) { *found = something(); return SUCCESS; }
Result cuFuncGetAttribute(int *value, int attribute, void *function) { *value = 64; return SUCCESS; }
Result cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) { *value = 64; return SUCCESS; }
Result cuKernelGetParamInfo(void *kernel, size_t k, size_t *offset, size_t *bytes) {
    if (k >= 6) return INVALID;
    *offset = 8 * k;
    if (bytes) *bytes = 8;
    return SUCCESS;
}

Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, void *function, int threads, size_t shared) {
    *count = 1;
    return SUCCESS;
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, void *function, int threads, size_t shared,
                                                            unsigned flags) {
    *count = 1;
    return SUCCESS;
}

/* launches and graphs */
Result cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned a, unsigned b, unsigned c,
                      unsigned shared, void *stream, void **arguments, void **extra) {
    say("launch", &x, &a, arguments);
    return SUCCESS;
}
typedef struct { int id; int value[17]; } Attribute; /* the value begins at the second int of `value` */
typedef struct { unsigned x, y, z, a, b, c, shared; void *stream; Attribute *attributes; unsigned count; } Configuration;
Result cuLaunchKernelEx(const Configuration *how, void *function, void **arguments, void **extra) {
    for (unsigned k = 0; k < how->count; k++)
        if (how->attributes[k].id == TOGETHER && how->attributes[k].value[1]) say("together", NULL, NULL, NULL);
    return cuLaunchKernel(function, how->x, how->y, how->z, how->a, how->b, how->c, how->shared, how->stream,
                          arguments, extra);
}
Result cuStreamBeginCapture(void *stream, int mode) { say("capture", NULL, NULL, NULL); return SUCCESS; }
Result cuStreamEndCapture(void *stream, void **found) { say("captured", NULL, NULL, NULL); *found = something(); return SUCCESS; }
Result cuGraphInstantiateWithFlags(void **found, void *graph, unsigned long long flags) { *found = something(); return SUCCESS; }
Result cuGraphLaunch(void *graph, void *stream) { say("graph", NULL, NULL, NULL); return SUCCESS; }

Result cuGetErrorName(Result error, const char **name) {
    *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}
Result cuGetErrorString(Result error, const char **text) { return cuGetErrorName(error, text); }
Result cuGetExportTable(void **table, void *uuid) { return NOT_FOUND; }
Result cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
    void *here = dlopen(getenv("NUMBANET_DRIVER"), RTLD_NOLOAD | RTLD_NOW);
    *found = dlsym(here, name);
    if (!*found) *found = (void *)nothing;
    if (status) *status = 0;
    return SUCCESS;
}
Result cuGetProcAddress(const char *name, void **found, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, found, version, flags, NULL);
}
