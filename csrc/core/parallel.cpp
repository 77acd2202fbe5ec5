#include "core/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace fastpose {
namespace {

int default_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const int n = std::atoi(text);
    if (n > 0) return n;
  }
  cpu_set_t set;  // what this process may use, not what the machine has
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
  return 1;
}

thread_local int thread_limit = 0;  // 0: not set
thread_local bool inside_parallel = false;

struct Job {
  void (*body)(void*, int64_t, int64_t);
  void* context;
  int64_t n, piece;
  std::atomic<int64_t> next{0};

  void work() {
    for (;;) {
      const int64_t begin = next.fetch_add(piece, std::memory_order_relaxed);
      if (begin >= n) return;
      body(context, begin, begin + piece < n ? begin + piece : n);
    }
  }
};

class Pool {
 public:
  // False if another thread has the pool: the caller then works alone.
  bool run(Job& job, int threads) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    while (static_cast<int>(workers_.size()) < threads - 1) {
      workers_.emplace_back([this, seen = generation_]() mutable { loop(seen); });
      workers_.back().detach();
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      wanted_ = threads - 1;
      ++generation_;
    }
    wake_.notify_all();
    inside_parallel = true;
    job.work();
    inside_parallel = false;
    std::unique_lock<std::mutex> lock(mutex_);
    wanted_ = 0;  // a worker that has not begun by now has nothing left to do
    done_.wait(lock, [this] { return busy_ == 0; });
    job_ = nullptr;
    return true;
  }

 private:
  void loop(uint64_t seen) {
    inside_parallel = true;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return generation_ != seen; });
      seen = generation_;
      if (wanted_ == 0) continue;
      --wanted_;
      ++busy_;
      Job* job = job_;
      lock.unlock();
      job->work();
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex owner_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  Job* job_ = nullptr;
  uint64_t generation_ = 0;
  int wanted_ = 0, busy_ = 0;
};

// Threads do not survive fork(), and the locks may be held at that moment: the child starts with a new pool and leaves the old one alone.
// The pool is never destroyed, so that detached workers never wake up in a dead object when the process ends.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
  static const bool registered = [] {
    pool = new Pool;
    pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
    return true;
  }();
  (void)registered;
  return *pool;
}

}  // namespace

void set_num_threads(int n) { thread_limit = n > 0 ? n : 0; }

int get_num_threads() {
  static const int fallback = default_threads();
  return thread_limit > 0 ? thread_limit : fallback;
}

void parallel_run(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
  if (grain < 1) grain = 1;
  const int64_t grains = (n + grain - 1) / grain;
  int64_t threads = get_num_threads();
  if (threads > grains) threads = grains;
  if (threads > 1 && !inside_parallel) {
    // Four pieces a thread even out unequal work; every piece is a whole number of grains.
    const int64_t pieces = threads * 4 < grains ? threads * 4 : grains;
    Job job{body, context, n, ((grains + pieces - 1) / pieces) * grain};
    if (the_pool().run(job, static_cast<int>(threads))) return;
  }
  body(context, 0, n);
}

}  // namespace fastpose
