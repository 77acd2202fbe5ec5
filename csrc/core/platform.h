// What Linux, macOS and Windows do each in its own way. For parallel.cpp only.
#pragma once

#include <new>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace fastpose {

// Processors that this process may use, where the system tells that apart from those of the machine.
inline int usable_processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);  // fails above 1024 processors
#endif
  const unsigned n = std::thread::hardware_concurrency();  // 0: unknown
  return n > 0 ? static_cast<int>(n) : 1;
}

// Has `f` called in every process that this one forks (Windows knows no fork), before fork() returns there.
inline void call_in_forked_children(void (*f)()) {
#if defined(_WIN32)
  static_cast<void>(f);
#else
  if (pthread_atfork(nullptr, nullptr, f) != 0) throw std::bad_alloc();  // its only failure
#endif
}

}  // namespace fastpose
