// The driver: which kernels this processor can run, and threads over units of work.
#include "scan.h"

#include "conv.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#if defined(WITH_AVX512)
extern const Kernels avx512_kernels;
#endif
#if defined(WITH_AVX2)
extern const Kernels avx2_kernels;
#endif
extern const Kernels plain_kernels;

namespace {

bool can_run(const char *name) {
#if defined(WITH_AVX512) || defined(WITH_AVX2)
    __builtin_cpu_init();
#endif
#if defined(WITH_AVX512)
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#endif
#if defined(WITH_AVX2)
    if (!strcmp(name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return !strcmp(name, "plain");
}

const Kernels *find(const char *name) {
    if (!can_run(name)) return nullptr;
#if defined(WITH_AVX512)
    if (!strcmp(name, "avx512")) return &avx512_kernels;
#endif
#if defined(WITH_AVX2)
    if (!strcmp(name, "avx2")) return &avx2_kernels;
#endif
    return &plain_kernels;
}

// Numbers too small to be normal count as zero: a decaying state becomes one, and arithmetic with them is a hundred times slower.
class FlushTiny {
#if defined(__SSE__)
    unsigned before = _mm_getcsr();

public:
    FlushTiny() { _mm_setcsr(before | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before); }
#endif
};

// Runs work(unit, scratch) for every unit. Threads take the next unit when they are done with one, so that a core that another process
// holds delays one unit, not the whole. They live for one call: nothing has to survive a fork. Returns false without memory.
template <typename Work>
bool in_parallel(int64_t units, int64_t threads, int64_t scratch_floats, const Work &work) {
    threads = threads < units ? threads : units;
    const int64_t stride = round_up(scratch_floats, 1024) + 16;  // apart by a line more than whole pages
    float *scratch = nullptr;
    if (threads < 1) return true;
    if (posix_memalign((void **)&scratch, 64, 4 * stride * threads)) return false;
    std::atomic<int64_t> next{0};
    const auto run = [&](int64_t thread) {
        FlushTiny flush;
        for (int64_t unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < units;) work(unit, scratch + thread * stride);
    };
    std::vector<std::thread> others;
    try {
        for (int64_t thread = 1; thread < threads; thread++) others.emplace_back(run, thread);
    } catch (const std::system_error &) {
        // No more threads are to be had: those that run take all units.
    }
    run(0);
    for (std::thread &other : others) other.join();
    free(scratch);
    return true;
}

// Asks for large pages in a buffer that is about to be written for the first time: without, a quarter of the time goes into faults of
// small ones. Where the system has none nothing happens.
void expect_writes(void *data, int64_t bytes) {
#if defined(MADV_HUGEPAGE)
    constexpr uintptr_t page = 1 << 21;
    const uintptr_t begin = ((uintptr_t)data + 4095) & ~(uintptr_t)4095, end = ((uintptr_t)data + bytes) & ~(uintptr_t)4095;
    if (data && bytes >= (int64_t)(2 * page)) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#else
    (void)data, (void)bytes;
#endif
}

void add_parts(const float *parts, int64_t num_parts, int64_t floats, int64_t begin, int64_t end, float *sum) {
    for (int64_t i = begin; i < end; i++) sum[i] = parts[i];
    for (int64_t part = 1; part < num_parts; part++)
        for (int64_t i = begin; i < end; i++) sum[i] += parts[part * floats + i];
}

}  // namespace

extern "C" {

int64_t vlm_scan_abi() { return sizeof(Scan); }
int64_t vlm_scan_tile() { return TILE; }
int64_t vlm_scan_chunk() { return CHUNK; }
int64_t vlm_scan_can_run(const char *name) { return find(name) != nullptr; }

// 0 when done, 1 without memory.
int64_t vlm_scan_forward(const char *name, const Scan *scan) {
    const Kernels *kernels = find(name);
    const int64_t chunks = chunks_of(*scan);
    return !in_parallel(scan->num_items * chunks, scan->threads, kernels->forward_scratch(*scan),
                        [&](int64_t unit, float *scratch) { kernels->forward(*scan, unit / chunks, unit % chunks, scratch); });
}

int64_t vlm_scan_backward(const char *name, const Scan *scan) {
    const Kernels *kernels = find(name);
    const int64_t chunks = chunks_of(*scan);
    return !in_parallel(scan->num_slots * chunks, scan->threads, kernels->backward_scratch(*scan),
                        [&](int64_t unit, float *scratch) { kernels->backward(*scan, unit / chunks, unit % chunks, scratch); });
}

// sum[i] = the sum of parts[p * floats + i] over p, always in the order of p.
void vlm_scan_add_parts(const float *parts, int64_t num_parts, int64_t floats, float *sum, int64_t threads) {
    const int64_t piece = 4096;
    in_parallel((floats + piece - 1) / piece, floats * num_parts < 1 << 18 ? 1 : threads, 0, [&](int64_t unit, float *) {
        const int64_t end = (unit + 1) * piece;
        add_parts(parts, num_parts, floats, unit * piece, end < floats ? end : floats, sum);
    });
}

void vlm_scan_expect_writes(void *data, int64_t bytes) { expect_writes(data, bytes); }

void vlm_scan_exponential(const char *name, const float *in, float *out, int64_t count) { find(name)->exponential(in, out, count); }
void vlm_scan_softplus(const char *name, const float *in, float *out, int64_t count) { find(name)->softplus(in, out, count); }
}

#include "conv_driver.h"
