// Fibers, barriers and warps; grid.h says what it is all about. ThreadSanitizer must not see this file's own variables, which all fibers share:
// it is compiled without, and tells the sanitizer about fibers and barriers itself.
#include "grid.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#if defined(CUDA_ON_CPU_TSAN)
#include <sanitizer/tsan_interface.h>
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(CUDA_ON_CPU_TSAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_on_cpu {
namespace {

constexpr size_t kStack = 256 * 1024, kPage = 4096;
constexpr unsigned kMostThreads = 1024;
constexpr size_t kSharedAlways = 48 * 1024;

struct Fiber {
  ucontext_t context;
  void *stack = nullptr, *tsan = nullptr, *fake_stack = nullptr;
  enum { Ready, AtBarrier, InWarp, Ended } state = Ready;
  Site site{"", 0};
  unsigned mask = 0;
  uint64_t value = 0, lanes[32];
};

struct Grid {
  Plan plan;
  Dim3 grid, block, at;
  const std::function<void()>* kernel = nullptr;
  void* shared = nullptr;
  unsigned threads = 0;
  int current = -1;  // the fiber that runs; -1: the host
  std::vector<std::unique_ptr<Fiber>> fibers;
  Fiber host;
  const void* host_stack = nullptr;
  size_t host_stack_size = 0;
  char barriers[2];  // ThreadSanitizer knows a barrier by an address; two in turn, so that one cannot be met early
  unsigned barrier = 0;
  bool votes[2];  // whether any thread said yes at a barrier
  char begin, end;   // of a block; one for both would put the end of a thread before the beginning of the next
  std::map<const void*, size_t> allowed;
  uint64_t random = 0;
  const char* how_to_repeat = "";
} g;

void tsan_release([[maybe_unused]] void* address) {
#if defined(CUDA_ON_CPU_TSAN)
  __tsan_release(address);
#endif
}

void tsan_acquire([[maybe_unused]] void* address) {
#if defined(CUDA_ON_CPU_TSAN)
  __tsan_acquire(address);
#endif
}

void switch_to(Fiber& from, Fiber& to, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t size) {
#if defined(CUDA_ON_CPU_TSAN)
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, stack, size);
#endif
  swapcontext(&from.context, &to.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void back_to_host() {
  Fiber& mine = *g.fibers[g.current];
  switch_to(mine, g.host, g.host_stack, g.host_stack_size);
}

void resume(unsigned thread) {
  g.current = static_cast<int>(thread);
  Fiber& fiber = *g.fibers[thread];
  switch_to(g.host, fiber, static_cast<char*>(fiber.stack) + kPage, kStack);
  g.current = -1;
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &g.host_stack, &g.host_stack_size);
#endif
  for (;;) {
    tsan_acquire(&g.begin);
    (*g.kernel)();
    tsan_release(&g.end);
    g.fibers[g.current]->state = Fiber::Ended;
    back_to_host();
  }
}

std::unique_ptr<Fiber> make_fiber() {
  auto fiber = std::make_unique<Fiber>();
  fiber->stack = mmap(nullptr, kStack + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fiber->stack == MAP_FAILED || mprotect(fiber->stack, kPage, PROT_NONE) != 0) fail("no memory for the stack of a thread");
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = static_cast<char*>(fiber->stack) + kPage;
  fiber->context.uc_stack.ss_size = kStack;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, fiber_main, 0);
#if defined(CUDA_ON_CPU_TSAN)
  fiber->tsan = __tsan_create_fiber(0);
#endif
  return fiber;
}

std::vector<unsigned> ordered(unsigned n) {
  std::vector<unsigned> order(n);
  for (unsigned i = 0; i < n; ++i) order[i] = g.plan.order == Plan::Descending ? n - 1 - i : i;
  if (g.plan.order == Plan::Shuffled) {
    for (unsigned i = n; i > 1; --i) {
      g.random = g.random * 6364136223846793005ull + 1442695040888963407ull;
      std::swap(order[i - 1], order[(g.random >> 33) % i]);
    }
  }
  return order;
}

[[noreturn]] void fail_stuck() {
  unsigned shown = 0;
  for (unsigned t = 0; t < g.threads && shown < 8; ++t) {
    const Fiber& f = *g.fibers[t];
    if (t > 0 && f.state == g.fibers[t - 1]->state && f.site.line == g.fibers[t - 1]->site.line) continue;
    if (f.state == Fiber::Ended) std::fprintf(stderr, "  from thread %u on: ended\n", t);
    else std::fprintf(stderr, "  from thread %u on: at %s:%d\n", t, f.site.file, f.site.line);
    ++shown;
  }
  fail("block %u: its threads wait for each other at different places", g.at.x);
}

// Lets those go on whose company is complete. False: nobody.
bool release_warps() {
  bool any = false;
  for (unsigned t = 0; t < g.threads; ++t) {
    Fiber& fiber = *g.fibers[t];
    if (fiber.state != Fiber::InWarp) continue;
    const unsigned first = t / 32 * 32;
    uint64_t lanes[32];
    std::fill(lanes, lanes + 32, 0xdeadbeefdeadbeefull);
    bool complete = true;
    for (unsigned i = 0; i < 32 && complete; ++i) {
      if (!(fiber.mask >> i & 1)) continue;
      if (first + i >= g.threads) fail("%s:%d: the mask names lane %u, which the block has not", fiber.site.file, fiber.site.line, i);
      const Fiber& other = *g.fibers[first + i];
      complete = other.state == Fiber::InWarp && other.mask == fiber.mask && other.site.line == fiber.site.line;
      lanes[i] = other.value;
    }
    if (!complete) continue;
    for (unsigned i = 0; i < 32; ++i) {
      if (!(fiber.mask >> i & 1)) continue;
      std::copy(lanes, lanes + 32, g.fibers[first + i]->lanes);
      g.fibers[first + i]->state = Fiber::Ready;
    }
    any = true;
  }
  return any;
}

bool release_barrier() {
  const Fiber& first = *g.fibers[0];
  for (unsigned t = 0; t < g.threads; ++t) {
    const Fiber& f = *g.fibers[t];
    if (f.state != Fiber::AtBarrier || f.site.line != first.site.line || strcmp(f.site.file, first.site.file) != 0) return false;
  }
  for (unsigned t = 0; t < g.threads; ++t) g.fibers[t]->state = Fiber::Ready;
  g.votes[++g.barrier % 2] = false;
  return true;
}

void run_block() {
  for (unsigned t = 0; t < g.threads; ++t) g.fibers[t]->state = Fiber::Ready;
  tsan_release(&g.begin);
  for (;;) {
    unsigned ended = 0;
    for (unsigned t : ordered(g.threads))
      if (g.fibers[t]->state == Fiber::Ready) resume(t);
    for (unsigned t = 0; t < g.threads; ++t) ended += g.fibers[t]->state == Fiber::Ended;
    if (ended == g.threads) break;
    if (!release_warps() && !release_barrier()) fail_stuck();
  }
  tsan_acquire(&g.end);
}

void wait(int state, Site site) {
  Fiber& mine = *g.fibers[g.current];
  mine.state = static_cast<decltype(mine.state)>(state);
  mine.site = site;
  back_to_host();
}

}  // namespace

void set_case(const char* how_to_repeat) {
  g.how_to_repeat = how_to_repeat;
#if defined(CUDA_ON_CPU_TSAN) || defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback([] { std::fputs(g.how_to_repeat, stderr); });
#endif
}

void fail(const char* format, ...) {
  std::fputs(g.how_to_repeat, stderr);
  std::fputs("cuda_on_cpu: ", stderr);
  va_list list;
  va_start(list, format);
  std::vfprintf(stderr, format, list);
  va_end(list);
  std::fputc('\n', stderr);
  std::abort();
}

void set_plan(const Plan& plan) {
  g.plan = plan;
  g.random = plan.seed;
}

bool launch(Dim3 grid, Dim3 block, size_t shared_bytes, const void* kernel, const std::function<void()>& run) {
  const auto allowed = g.allowed.find(kernel);
  const size_t asked_for = allowed == g.allowed.end() ? 0 : allowed->second + kStaticShared;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return false;
  if (block.y != 1 || block.z != 1 || block.x == 0 || block.x > kMostThreads) return false;
  if (shared_bytes > 0 && shared_bytes + kStaticShared > std::max(kSharedAlways, asked_for)) return false;
#if defined(CUDA_ON_CPU_TSAN)
  g.host.tsan = __tsan_get_current_fiber();
#endif
  while (g.fibers.size() < block.x) g.fibers.push_back(make_fiber());
  g.grid = Dim3(std::min(grid.x, g.plan.most_blocks), std::min(grid.y, g.plan.most_blocks), grid.z);
  g.block = block;
  g.threads = block.x;
  g.kernel = &run;
  for (unsigned z : ordered(g.grid.z)) {
    for (unsigned y : ordered(g.grid.y)) {
      for (unsigned x : ordered(g.grid.x)) {
        g.at = Dim3(x, y, z);
        // Of exactly this size, so that AddressSanitizer knows its end, and full of NaN.
        const std::unique_ptr<void, void (*)(void*)> shared(std::malloc(shared_bytes), std::free);
        memset(shared.get(), 0xff, shared_bytes);
        g.shared = shared.get();
        run_block();
      }
    }
  }
  return true;
}

bool allow_shared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) + kStaticShared > g.plan.most_shared) return false;
  g.allowed[kernel] = static_cast<size_t>(bytes);
  return true;
}

void expect_stream(void* stream) {
  if (stream != g.plan.stream) fail("a launch on another stream than the caller's");
}

int driver_version() { return g.plan.driver; }

void expect_arguments(size_t bytes) {
  if (bytes > 4096 && g.plan.driver < 12010) fail("kernel arguments of %zu bytes: drivers before 12.1 take 4096", bytes);
}

Dim3 thread_index() { return Dim3(static_cast<unsigned>(g.current), 0, 0); }
Dim3 block_index() { return g.at; }
Dim3 block_size() { return g.block; }
Dim3 grid_size() { return g.grid; }
void* dynamic_shared_memory() { return g.shared; }
int lane() { return g.current % 32; }

void sync_threads(Site site) {
  void* const barrier = &g.barriers[g.barrier % 2];
  tsan_release(barrier);
  wait(Fiber::AtBarrier, site);
  tsan_acquire(barrier);
}

int sync_threads_or(Site site, bool predicate) {
  const unsigned turn = g.barrier % 2;
  g.votes[turn] |= predicate;
  sync_threads(site);
  return g.votes[turn] ? 1 : 0;
}

void exchange(Site site, unsigned mask, uint64_t value, uint64_t* lanes) {
  Fiber& mine = *g.fibers[g.current];
  if (!(mask >> lane() & 1)) fail("%s:%d: lane %d is not in its own mask", site.file, site.line, lane());
  mine.mask = mask;
  mine.value = value;
  wait(Fiber::InWarp, site);
  for (int i = 0; i < 32; ++i) lanes[i] = mine.lanes[i];
}

void sync_warp(Site site, unsigned mask) {
  // A lane's own address, two in turn: it may be at its next __syncwarp before all others have woken from this one.
  static char marks[kMostThreads][2];
  static unsigned turns[kMostThreads];
  const unsigned turn = turns[g.current]++ % 2;
  uint64_t lanes[32];
  tsan_release(&marks[g.current][turn]);
  exchange(site, mask, turn, lanes);
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) tsan_acquire(&marks[g.current / 32 * 32 + i][lanes[i]]);
}

}  // namespace cuda_on_cpu
