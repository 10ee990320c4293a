/* A library of ONNX Runtime for tests: it forwards everything to the real one, but for what a test wants otherwise.
 *
 *   ORT_SHIM_REAL     the file of the real library
 *   ORT_SHIM_CUDA     set: CUDA and TensorRT can be asked for; what is asked of them runs on the CPU
 *   ORT_SHIM_FAIL     a file; while it is there, runs fail with the text that it holds. Where the first word is `all`,
 *                     every run does; where it is `graphs`, all but those of the graph of one node by which a device is
 *                     known to be alive; where it is `load`, no graph can be loaded
 *   ORT_SHIM_API      `none`: the interface that is asked for is not there
 *
 * The numbers are places in the table of functions (OrtApi of onnxruntime_c_api.h), to which versions only append. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CREATE_STATUS = 0,
    CREATE_SESSION_FROM_ARRAY = 8,
    RUN = 9,
    CREATE_MEMORY_INFO = 68,
    RUN_WITH_BINDING = 133,
    APPEND_TENSORRT = 170,
    CREATE_TENSORRT_OPTIONS = 171,
    UPDATE_TENSORRT_OPTIONS = 172,
    RELEASE_TENSORRT_OPTIONS = 174,
    APPEND_CUDA = 204,
    CREATE_CUDA_OPTIONS = 205,
    UPDATE_CUDA_OPTIONS = 206,
    RELEASE_CUDA_OPTIONS = 208,
    /* As many as 1.17 has: nobody asks for more. */
    PLACES = 276,
};

typedef void *status;
typedef struct {
    const void *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} api_base;

static void *table[PLACES];
static const api_base *real_base;
static status (*create_status)(int code, const char *message);
static status (*create_session)(const void *, const void *, size_t, const void *, void **);
static status (*run)(void *, const void *, const char *const *, const void *const *, size_t, const char *const *, size_t,
                     void **);
static status (*run_with_binding)(void *, const void *, const void *);
static status (*create_memory_info)(const char *, int, int, int, void **);

/* The failure that the test wants, if it wants one of this kind. */
static status failure(const char *kind)
{
    const char *path = getenv("ORT_SHIM_FAIL");
    FILE *file = path ? fopen(path, "r") : NULL;
    char text[256] = "";
    if (!file)
        return NULL;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = 0;
    char *message = strchr(text, ' ');
    if (!message)
        return NULL;
    *message++ = 0;
    int wanted = strcmp(text, kind) == 0 || (strcmp(text, "all") == 0 && strcmp(kind, "graphs") == 0);
    return wanted ? create_status(1, message) : NULL;
}

static status shim_create_session(const void *env, const void *bytes, size_t n, const void *options, void **out)
{
    status failed = failure("load");
    return failed ? failed : create_session(env, bytes, n, options, out);
}

static status shim_run(void *session, const void *options, const char *const *names, const void *const *inputs, size_t n,
                       const char *const *outputs, size_t n_outputs, void **out)
{
    int is_probe = n == 1 && strcmp(names[0], "probe") == 0;
    status failed = failure(is_probe ? "all" : "graphs");
    return failed ? failed : run(session, options, names, inputs, n, outputs, n_outputs, out);
}

static status shim_run_with_binding(void *session, const void *options, const void *binding)
{
    status failed = failure("graphs");
    return failed ? failed : run_with_binding(session, options, binding);
}

static status shim_create_memory_info(const char *name, int type, int id, int memory_type, void **out)
{
    return create_memory_info(strcmp(name, "Cuda") == 0 ? "Cpu" : name, type, id, memory_type, out);
}

static status create_options(void **out)
{
    *out = malloc(1);
    return NULL;
}

/* Options that 1.17 does not know are refused, as it does. */
static status update_options(void *options, const char *const *keys, const char *const *values, size_t n)
{
    static const char *known[] = {"device_id", "gpu_mem_limit", "arena_extend_strategy", "cudnn_conv_algo_search",
                                  "cudnn_conv_use_max_workspace", "trt_max_workspace_size", "trt_engine_cache_enable",
                                  "trt_engine_cache_path", "trt_timing_cache_enable", "trt_timing_cache_path"};
    (void)options, (void)values;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0, n_known = sizeof known / sizeof *known;
        while (k < n_known && strcmp(known[k], keys[i]) != 0)
            k++;
        if (k == n_known)
            return create_status(2, keys[i]);
    }
    return NULL;
}

static void release_options(void *options)
{
    free(options);
}

static status append(void *session_options, const void *options)
{
    (void)session_options, (void)options;
    return NULL;
}

static const void *get_api(uint32_t version)
{
    const char *api = getenv("ORT_SHIM_API");
    const void *real = api && strcmp(api, "none") == 0 ? NULL : real_base->get_api(version);
    if (!real)
        return NULL;
    memcpy(table, real, sizeof table);
    create_status = (status(*)(int, const char *))table[CREATE_STATUS];
    create_session = (status(*)(const void *, const void *, size_t, const void *, void **))table[CREATE_SESSION_FROM_ARRAY];
    run = (status(*)(void *, const void *, const char *const *, const void *const *, size_t, const char *const *, size_t,
                     void **))table[RUN];
    run_with_binding = (status(*)(void *, const void *, const void *))table[RUN_WITH_BINDING];
    create_memory_info = (status(*)(const char *, int, int, int, void **))table[CREATE_MEMORY_INFO];
    table[CREATE_SESSION_FROM_ARRAY] = (void *)shim_create_session;
    table[RUN] = (void *)shim_run;
    table[RUN_WITH_BINDING] = (void *)shim_run_with_binding;
    if (getenv("ORT_SHIM_CUDA")) {
        table[CREATE_MEMORY_INFO] = (void *)shim_create_memory_info;
        table[APPEND_TENSORRT] = table[APPEND_CUDA] = (void *)append;
        table[CREATE_TENSORRT_OPTIONS] = table[CREATE_CUDA_OPTIONS] = (void *)create_options;
        table[UPDATE_TENSORRT_OPTIONS] = table[UPDATE_CUDA_OPTIONS] = (void *)update_options;
        table[RELEASE_TENSORRT_OPTIONS] = table[RELEASE_CUDA_OPTIONS] = (void *)release_options;
    }
    return table;
}

static const char *get_version(void)
{
    return real_base->get_version();
}

const api_base *OrtGetApiBase(void)
{
    static const api_base base = {get_api, get_version};
    const char *path = getenv("ORT_SHIM_REAL");
    void *library = dlopen(path ? path : "libonnxruntime.so.1", RTLD_NOW | RTLD_LOCAL);
    const api_base *(*get_base)(void) = library ? (const api_base *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
    if (!get_base)
        abort();
    real_base = get_base();
    return &base;
}
