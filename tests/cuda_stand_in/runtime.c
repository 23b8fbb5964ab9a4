/* CUDA's runtime for machines without a GPU: memory is the host's, kernels are counted and not run.
 *
 * With it the CUDA provider of ONNX Runtime opens a graph, decides where nodes run, captures and replays, and checks what
 * it is given, all as it would before the first kernel. What comes out is nonsense. The calls that are not here do nothing:
 * build.py writes them.
 */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

#undef cudaGetDeviceProperties

static int launches, empty, replays, captures, copies[5], capturing;

int stand_in_launches(void) { return launches; }
/* Of those, kernels without a block or a thread, which a GPU refuses. */
int stand_in_empty(void) { return empty; }
int stand_in_replays(void) { return replays; }
int stand_in_captures(void) { return captures; }
int stand_in_copies(int kind) { return copies[kind]; }

/* One GPU, of the kind that has all kernels. */

cudaError_t cudaGetDeviceCount(int *count) { *count = 1; return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = 0; return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *version) { *version = 13000; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = 13000; return cudaSuccess; }
const char *cudaGetErrorName(cudaError_t error) { return "stand-in"; }
const char *cudaGetErrorString(cudaError_t error) { return "stand-in"; }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device) {
    memset(p, 0, sizeof *p);
    strcpy(p->name, "stand-in");
    p->major = 9;
    p->multiProcessorCount = 132;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->totalGlobalMem = 80ULL << 30;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->regsPerBlock = 65536;
    p->l2CacheSize = 50 << 20;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    for (int i = 0; i < 3; i++) p->maxThreadsDim[i] = 1024;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 << 10; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 227 << 10; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = 228 << 10; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    default: *value = 1;
    }
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *kernel) {
    memset(a, 0, sizeof *a);
    a->maxThreadsPerBlock = 1024;
    a->maxDynamicSharedSizeBytes = 227 << 10;
    a->ptxVersion = a->binaryVersion = 90;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *f, int b, size_t s, unsigned flags) {
    *n = 2;
    return cudaSuccess;
}

/* Kernels say how much shared memory they need by way of a symbol. */
cudaError_t cudaMemcpyFromSymbol(void *to, const void *symbol, size_t size, size_t offset, enum cudaMemcpyKind kind) {
    memset(to, 0, size);
    if (size >= 4) *(unsigned *)to = 64 << 10;
    return cudaSuccess;
}

/* Memory. */

cudaError_t cudaMalloc(void **p, size_t size) {
    *p = aligned_alloc(256, (size + 511) / 256 * 256);
    memset(*p, 0, size);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t size) { return cudaMalloc(p, size); }
cudaError_t cudaHostAlloc(void **p, size_t size, unsigned flags) { return cudaMalloc(p, size); }
cudaError_t cudaMallocFromPoolAsync(void **p, size_t size, cudaMemPool_t pool, cudaStream_t s) { return cudaMalloc(p, size); }
cudaError_t cudaFree(void *p) { free(p); return cudaSuccess; }
cudaError_t cudaFreeHost(void *p) { free(p); return cudaSuccess; }
cudaError_t cudaFreeAsync(void *p, cudaStream_t s) { free(p); return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t *free_, size_t *total) { *free_ = 70ULL << 30; *total = 80ULL << 30; return cudaSuccess; }
cudaError_t cudaMemset(void *p, int value, size_t size) { memset(p, value, size); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void *p, int value, size_t size, cudaStream_t s) { return cudaMemset(p, value, size); }
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
    copies[kind]++;
    memmove(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t s) {
    return cudaMemcpy(to, from, size, kind);
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t pitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t s) {
    copies[kind]++;
    for (size_t i = 0; i < height; i++) memmove((char *)to + i * to_pitch, (const char *)from + i * pitch, width);
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *a, const void *p) {
    memset(a, 0, sizeof *a);
    a->type = cudaMemoryTypeDevice;
    return cudaSuccess;
}

/* Streams, events and captures. */

cudaError_t cudaStreamCreate(cudaStream_t *s) { *s = malloc(8); return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) { return cudaStreamCreate(s); }
cudaError_t cudaEventCreate(cudaEvent_t *e) { *e = malloc(8); return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) { return cudaEventCreate(e); }
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *status) {
    *status = capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) { capturing = 1; return cudaSuccess; }
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph) {
    capturing = 0;
    captures++;
    *graph = malloc(8);
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long flags) {
    *e = malloc(8);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s) { replays++; return cudaSuccess; }

/* Kernels. */

static cudaError_t launch(dim3 grid, dim3 block) {
    launches++;
    empty += !(grid.x && grid.y && grid.z && block.x && block.y && block.z);
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t s) {
    return launch(grid, block);
}
cudaError_t __cudaLaunchKernel(cudaKernel_t f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t s) {
    return launch(grid, block);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *f, void **args) {
    return launch(c->gridDim, c->blockDim);
}
cudaError_t cudaLaunchCooperativeKernel(const void *f, dim3 g, dim3 b, void **args, size_t shared, cudaStream_t s) {
    return launch(g, b);
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *f) { *kernel = (cudaKernel_t)f; return cudaSuccess; }
static struct { dim3 grid, block; size_t shared; void *stream; } call;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
    call.grid = grid; call.block = block; call.shared = shared; call.stream = stream;
    return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = call.grid; *block = call.block; *shared = call.shared; *(void **)stream = call.stream;
    return cudaSuccess;
}
void **__cudaRegisterFatBinary(void *image) { static void *handle; return &handle; }
