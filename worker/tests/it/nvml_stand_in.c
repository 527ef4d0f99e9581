/* A stand-in for NVIDIA's management library, as far as the worker asks it: the cards are lines of the
 * file `cards` beside the library, so that a test can take one away. Built by the tests that load it.
 * A line: uuid, MiB in all, MiB free, compute capability (two numbers), percent in use, name; or `lost`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, LOST = 15, UNKNOWN = 999 };

struct card { int lost; char uuid[64]; unsigned long long total, free; int major, minor; unsigned use; char name[64]; };
struct memory { unsigned version; unsigned long long total, reserved, free, used; };
struct rates { unsigned gpu, memory; };

/* The cards as they are now; how many. */
static int cards(struct card *into, int room) {
    Dl_info self;
    char path[4096], line[512];
    int count = 0;
    if (!dladdr((void *)cards, &self)) return -1;
    snprintf(path, sizeof path, "%s", self.dli_fname);
    char *slash = strrchr(path, '/');
    if (!slash) return -1;
    snprintf(slash, sizeof path - (slash - path), "/cards");
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    while (count < room && fgets(line, sizeof line, file)) {
        struct card *c = &into[count];
        memset(c, 0, sizeof *c);
        c->lost = strncmp(line, "lost", 4) == 0;
        if (!c->lost && sscanf(line, "%63s %llu %llu %d %d %u %63[^\n]", c->uuid, &c->total, &c->free,
                               &c->major, &c->minor, &c->use, c->name) != 7) break;
        count++;
    }
    fclose(file);
    return count;
}

/* Handles are numbers from one. */
static int card(void *handle, struct card *into) {
    struct card all[16];
    long index = (long)handle - 1;
    int count = cards(all, 16);
    if (count < 0) return UNKNOWN;
    if (index < 0 || index >= count) return INVALID_ARGUMENT;
    *into = all[index];
    return into->lost ? LOST : SUCCESS;
}

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == LOST ? "lost" : "error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    snprintf(text, length, "550.54.15");
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    struct card all[16];
    int found = cards(all, 16);
    *count = found < 0 ? 0 : found;
    return found < 0 ? UNKNOWN : SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(long)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned length) {
    struct card c;
    int code = card(handle, &c);
    if (code == SUCCESS) snprintf(text, length, "%s", c.uuid);
    return code;
}

int nvmlDeviceGetName(void *handle, char *text, unsigned length) {
    struct card c;
    int code = card(handle, &c);
    if (code == SUCCESS) snprintf(text, length, "%s", c.name);
    return code;
}

int nvmlDeviceGetMemoryInfo_v2(void *handle, struct memory *memory) {
    struct card c;
    int code = card(handle, &c);
    if (memory->version != (sizeof *memory | 2 << 24)) return INVALID_ARGUMENT;
    if (code == SUCCESS) {
        memory->total = c.total << 20;
        memory->free = c.free << 20;
        memory->used = memory->total - memory->free;
    }
    return code;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    struct card c;
    int code = card(handle, &c);
    if (code == SUCCESS) { *major = c.major; *minor = c.minor; }
    return code;
}

int nvmlDeviceGetUtilizationRates(void *handle, struct rates *rates) {
    struct card c;
    int code = card(handle, &c);
    if (code == SUCCESS) { rates->gpu = c.use; rates->memory = c.use / 2; }
    return code;
}

int nvmlDeviceGetEncoderUtilization(void *handle, unsigned *percent, unsigned *period) {
    struct card c;
    int code = card(handle, &c);
    if (code == SUCCESS) { *percent = c.use / 3; *period = 1; }
    return code;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *degrees) {
    struct card c;
    int code = card(handle, &c);
    if (code == SUCCESS) *degrees = 40 + sensor;
    return code;
}

/* As cards without a fan have it; the decoder's use is a function that this library lacks. */
int nvmlDeviceGetFanSpeed_v2(void *handle, unsigned fan, unsigned *speed) {
    (void)handle, (void)fan, (void)speed;
    return NOT_SUPPORTED;
}
