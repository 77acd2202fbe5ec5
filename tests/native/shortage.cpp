// The pool of threads and the working memory where the system has none to give. Prints what went wrong; exit status 0 if nothing did.
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "core/parallel.h"
#include "core/scratch.h"

namespace {

int failures = 0;

#define CHECK(condition) \
  do {                   \
    if (!(condition)) {  \
      ++failures;        \
      std::printf("line %d: not %s\n", __LINE__, #condition); \
    }                    \
  } while (0)

// Threads made from now on have stacks of this size; no address space is large enough for kAbsurd.
constexpr size_t kUsual = 8u << 20, kAbsurd = size_t{1} << 60;
void stack_size_of_new_threads(size_t bytes) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, bytes) == 0);
  CHECK(pthread_setattr_default_np(&attributes) == 0);
  pthread_attr_destroy(&attributes);
}

// Whether a loop with so many threads reaches every index once; with one thread in all if `alone`.
bool every_index_once(int threads, bool alone) {
  fastpose::set_num_threads(threads);
  std::vector<std::atomic<int>> visits(1000);
  std::atomic<bool> elsewhere{false};
  const std::thread::id here = std::this_thread::get_id();
  fastpose::parallel_for(1000, 1, [&](int64_t begin, int64_t end) {
    if (std::this_thread::get_id() != here) elsewhere = true;
    for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
  });
  for (const auto& visit : visits)
    if (visit != 1) return false;
  return !(alone && elsewhere);
}

// What a loop throws whose pieces throw from index `first` on.
const char* thrown(int threads, int64_t first) {
  fastpose::set_num_threads(threads);
  try {
    fastpose::parallel_for(1000, 1, [&](int64_t, int64_t end) {
      if (end > first) throw std::out_of_range("a piece");
    });
  } catch (const std::out_of_range&) {
    return "out_of_range";
  } catch (...) {
    return "something else";
  }
  return "nothing";
}

bool same(const char* a, const char* b) { return std::char_traits<char>::compare(a, b, std::char_traits<char>::length(b) + 1) == 0; }

// Whether bad_alloc comes out of a loop each of whose pieces asks for so much scratch.
bool scratch_is_short(int threads, int64_t floats) {
  fastpose::set_num_threads(threads);
  try {
    fastpose::parallel_for(16, 1, [&](int64_t, int64_t) { fastpose::thread_scratch(floats)[0] = 1.f; });
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

template <class F>
bool holds_in_a_child(F condition) {
  const pid_t child = fork();
  if (child == 0) _exit(condition() ? 0 : 1);
  int status = 1;
  return waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace

int main() {
  // Not one thread, then some of those wanted, then all.
  stack_size_of_new_threads(kAbsurd);
  CHECK(every_index_once(4, true));
  CHECK(same(thrown(4, 500), "out_of_range"));
  stack_size_of_new_threads(kUsual);
  CHECK(every_index_once(2, false));
  stack_size_of_new_threads(kAbsurd);
  CHECK(every_index_once(8, false));
  CHECK(same(thrown(8, 0), "out_of_range"));
  stack_size_of_new_threads(kUsual);
  CHECK(every_index_once(8, false));

  // An exception leaves the pool as it was.
  for (int i = 0; i < 200; ++i) {
    CHECK(same(thrown(i % 4 + 1, i), "out_of_range"));
    CHECK(every_index_once(i % 4 + 1, false));
  }
  CHECK(same(thrown(4, 2000), "nothing"));

  // A child has threads of its own, or none if there are none.
  CHECK(holds_in_a_child([] { return every_index_once(4, false); }));
  CHECK(holds_in_a_child([] {
    stack_size_of_new_threads(kAbsurd);
    return every_index_once(4, true) && same(thrown(4, 1), "out_of_range");
  }));

  // Scratch that cannot be had, on the caller and on workers, and scratch afterwards.
  for (int threads : {1, 4}) {
    CHECK(!scratch_is_short(threads, 1000));
    CHECK(scratch_is_short(threads, int64_t{1} << 58));
    CHECK(scratch_is_short(threads, int64_t{1} << 61));  // its bytes are no int64
    CHECK(!scratch_is_short(threads, 1000));
  }
  for (int64_t bytes : {int64_t{1} << 60, int64_t{-8}}) {
    bool refused = false;
    try {
      const fastpose::Workspace workspace(bytes);
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    CHECK(refused);
  }
  const fastpose::Workspace small(100), empty(0);
  CHECK(reinterpret_cast<uintptr_t>(small.data()) % 64 == 0);
  return failures != 0;
}
