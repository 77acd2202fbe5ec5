// Which SIMD level runs, and the one line with which an op makes itself known for all of them.
#pragma once

namespace fastpose {

enum class SimdLevel : int { Baseline = 0, Sse2 = 1, Avx2 = 2, Avx512 = 3, Neon = 4 };
constexpr SimdLevel kSimdLevels[] = {SimdLevel::Baseline, SimdLevel::Sse2, SimdLevel::Avx2, SimdLevel::Avx512, SimdLevel::Neon};

// The level in use: the best that this CPU has, or the one that the environment variable FASTPOSE_SIMD forced at load time.
SimdLevel simd_level();
const char* simd_level_name(SimdLevel level);
bool simd_supported(SimdLevel level);
// Takes the level by its name, or the best there is for nullptr and ""; returns nullptr, or the reason why it cannot be used.
const char* set_simd_level(const char* name);
// Whether the AVX-512 level may use VBMI (byte permutations), which its first processors lack. allow_simd_vbmi is for tests.
bool simd_vbmi();
void allow_simd_vbmi(bool allowed);

}  // namespace fastpose

// At the end of OP_cpu.cpp, in namespace fastpose:   FASTPOSE_DISPATCH(oks_cpu, OksArgs)
// The file itself defines `void oks_cpu(const OksArgs&)` in namespace fastpose::FASTPOSE_SIMD_NS; this line, which is effective only in the
// unit of the lowest level, defines fastpose::oks_cpu, which calls the right one.
#if defined(FASTPOSE_SIMD_sse2)
#define FASTPOSE_DISPATCH(FUNCTION, ARGS)                  \
  namespace sse2 { void FUNCTION(const ARGS&); }           \
  namespace avx2 { void FUNCTION(const ARGS&); }           \
  namespace avx512 { void FUNCTION(const ARGS&); }         \
  void FUNCTION(const ARGS& args) {                        \
    switch (simd_level()) {                                \
      case SimdLevel::Avx512: return avx512::FUNCTION(args); \
      case SimdLevel::Avx2: return avx2::FUNCTION(args);   \
      default: return sse2::FUNCTION(args);                \
    }                                                      \
  }
#elif defined(FASTPOSE_SIMD_neon) || defined(FASTPOSE_SIMD_baseline)  // the only level of its processors
#define FASTPOSE_DISPATCH(FUNCTION, ARGS)                    \
  namespace FASTPOSE_SIMD_NS { void FUNCTION(const ARGS&); } \
  void FUNCTION(const ARGS& args) { FASTPOSE_SIMD_NS::FUNCTION(args); }
#else
#define FASTPOSE_DISPATCH(FUNCTION, ARGS)
#endif
