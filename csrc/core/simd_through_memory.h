// What SSE2 and NEON have no instruction for, lane by lane through memory. Included by their headers only.
#pragma once

namespace fastpose {
namespace FASTPOSE_SIMD_NS {

FASTPOSE_INLINE Vec load_n(const float* p, int n) {
  float t[4] = {0, 0, 0, 0};
  for (int i = 0; i < n && i < 4; ++i) t[i] = p[i];
  return load(t);
}
FASTPOSE_INLINE void store_n(float* p, Vec a, int n) {
  float t[4];
  store(t, a);
  for (int i = 0; i < n && i < 4; ++i) p[i] = t[i];
}

FASTPOSE_INLINE IVec gather_i32(const void* base, IVec offsets) {
  int32_t o[4], r[4];
  istore(o, offsets);
  for (int i = 0; i < 4; ++i) memcpy(&r[i], static_cast<const char*>(base) + o[i], 4);
  return iload(r);
}
FASTPOSE_INLINE Vec gather_f32(const float* base, IVec indices) {
  int32_t o[4];
  istore(o, indices);
  const float r[4] = {base[o[0]], base[o[1]], base[o[2]], base[o[3]]};
  return load(r);
}

}  // namespace FASTPOSE_SIMD_NS
}  // namespace fastpose
