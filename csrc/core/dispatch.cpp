#include "core/dispatch.h"

#include <atomic>
#include <cstring>
#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fastpose {
namespace {

#if defined(__x86_64__)
// clang's __builtin_cpu_supports has not always known "f16c".
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

SimdLevel best_level() {
#if defined(__x86_64__)
  for (SimdLevel level : {SimdLevel::Avx512, SimdLevel::Avx2})
    if (simd_supported(level)) return level;
  return SimdLevel::Sse2;
#elif defined(__aarch64__)
  return SimdLevel::Neon;
#else
  return SimdLevel::Baseline;
#endif
}

std::atomic<SimdLevel> chosen{SimdLevel::Baseline};
std::atomic<bool> vbmi_allowed{true};

}  // namespace

SimdLevel simd_level() { return chosen.load(std::memory_order_relaxed); }

const char* simd_level_name(SimdLevel level) {
  switch (level) {
    case SimdLevel::Sse2: return "sse2";
    case SimdLevel::Avx2: return "avx2";
    case SimdLevel::Avx512: return "avx512";
    case SimdLevel::Neon: return "neon";
    default: return "baseline";
  }
}

bool simd_supported(SimdLevel level) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (level) {
    case SimdLevel::Sse2: return true;
    case SimdLevel::Avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case SimdLevel::Avx512:
      return simd_supported(SimdLevel::Avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    default: return false;
  }
#else
  return level == best_level();
#endif
}

bool simd_vbmi() {
#if defined(__x86_64__)
  static const bool supported = (__builtin_cpu_init(), __builtin_cpu_supports("avx512vbmi") != 0);
  return supported && vbmi_allowed.load(std::memory_order_relaxed);
#else
  return false;
#endif
}

void allow_simd_vbmi(bool allowed) { vbmi_allowed = allowed; }

const char* set_simd_level(const char* name) {
  if (name == nullptr || *name == '\0') {
    chosen = best_level();
    return nullptr;
  }
  for (SimdLevel level : kSimdLevels) {
    if (std::strcmp(name, simd_level_name(level)) != 0) continue;
    if (!simd_supported(level)) return "this CPU does not support it";
    chosen = level;
    return nullptr;
  }
  return "expected sse2, avx2 or avx512 (neon on AArch64, baseline on other processors)";
}

}  // namespace fastpose
