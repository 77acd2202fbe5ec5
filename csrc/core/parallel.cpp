#include "core/parallel.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "core/platform.h"

namespace fastpose {
namespace {

int default_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const int n = std::atoi(text);
    if (n > 0) return n;
  }
  return usable_processors();
}

thread_local int thread_limit = 0;  // 0: not set
thread_local bool inside_parallel = false;

struct Job {
  void (*body)(void*, int64_t, int64_t);
  void* context;
  int64_t n, piece;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure{};  // what the first piece that failed has thrown

  void work() noexcept {
    try {
      for (;;) {
        const int64_t begin = next.fetch_add(piece, std::memory_order_relaxed);
        if (begin >= n) return;
        body(context, begin, begin + piece < n ? begin + piece : n);
      }
    } catch (...) {
      next.store(n, std::memory_order_relaxed);  // nobody begins another piece
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }
};

class Pool {
 public:
  // False if another thread has the pool, or if there are no workers to be had: the caller then works alone.
  bool run(Job& job, int threads) {
    std::unique_lock<std::mutex> owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) return false;
    hire(threads - 1);
    if (workers_ == 0) return false;
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
  // Workers up to this number, or as many as the system gives: a container may have no process left, a limit no memory for a stack.
  void hire(int number) {
    try {
      for (; workers_ < number; ++workers_) std::thread([this, seen = generation_] { loop(seen); }).detach();
    } catch (const std::exception&) {
      // Those that are there do the work; the next call tries again.
    }
  }

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
  Job* job_ = nullptr;
  uint64_t generation_ = 0;
  int workers_ = 0, wanted_ = 0, busy_ = 0;
};

// Threads do not survive fork(), and the locks may be held at that moment: the child starts with a new pool and leaves the old one alone.
// The pool is never destroyed, so that detached workers never wake up in a dead object when the process ends. Null: no memory for one.
std::atomic<Pool*> pool{nullptr};

Pool* the_pool() {
  static const bool ready = [] {
    call_in_forked_children([] { pool = new (std::nothrow) Pool; });
    pool = new (std::nothrow) Pool;
    return true;
  }();
  return ready ? pool.load() : nullptr;
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
    Pool* here = the_pool();
    if (here != nullptr && here->run(job, static_cast<int>(threads))) {
      if (job.failure != nullptr) std::rethrow_exception(job.failure);
      return;
    }
  }
  body(context, 0, n);
}

}  // namespace fastpose
