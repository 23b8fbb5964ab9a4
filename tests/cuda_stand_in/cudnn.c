/* The little of cuDNN that is asked for although no kernel of it is used. */
#include <stddef.h>

static int handle;
int cudnnCreate(void **h) { *h = &handle; return 0; }
int cudnnDestroy(void *h) { return 0; }
int cudnnSetStream(void *h, void *stream) { return 0; }
size_t cudnnGetVersion(void) { return 91400; }
size_t cudnnGetCudartVersion(void) { return 13000; }
const char *cudnnGetErrorString(int status) { return "stand-in"; }
void cudnnGetLastErrorString(char *text, size_t size) { if (size) *text = 0; }
