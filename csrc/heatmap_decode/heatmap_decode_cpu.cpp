#include "heatmap_decode/heatmap_decode.h"

#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "heatmap_decode/heatmap_blur_cpu.h"
#include "heatmap_decode/heatmap_decode_math.h"
#include "heatmap_decode/peak_cpu.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

// First index whose value times `factor` is not below `limit`: products of different values may be equal.
FASTPOSE_INLINE int first_product(const float* map, int n, float factor, float limit) {
  int i = 0;
  for (; i + Vec::lanes <= n; i += Vec::lanes) {
    const uint32_t hit = bits(load(map + i) * set(factor) >= set(limit));
    if (hit != 0) return i + __builtin_ctz(hit);
  }
  for (; i < n; ++i)
    if (map[i] * factor >= limit) return i;
  return 0;
}

FASTPOSE_INLINE float sample(const void* maps, DType dtype, int64_t index) {
  switch (dtype) {
    case DType::Float16: return float16_value(static_cast<const uint16_t*>(maps)[index]);
    case DType::BFloat16: return bfloat16_value(static_cast<const uint16_t*>(maps)[index]);
    default: return static_cast<const float*>(maps)[index];
  }
}

struct Scratch {
  float *map, *mirror, *blurred;
  BlurScratch blur;
};

struct Reader {
  const HeatmapDecodeArgs& args;
  const HeatmapReading& r;
  const Scratch& scratch;
  const int pixels;
  const Ahead ahead;  // of the maps, where they are read in place

  // One map as floats: where it lies, if it can be used as it is.
  FASTPOSE_INLINE const float* floats(const void* maps, int64_t map, float* to) const {
    if (args.dtype == DType::Float32) return static_cast<const float*>(maps) + map * pixels;
    widen(static_cast<const uint16_t*>(maps) + map * pixels, args.dtype, pixels, to);
    return to;
  }

  // The map of the arg-max, averaged with the mirrored one if there is one.
  FASTPOSE_INLINE const float* merged_map(int64_t map, int64_t mirrored_map) const {
    const float* plain = floats(args.heatmaps, map, scratch.map);
    if (args.flipped == nullptr) return plain;
    const float* mirror = floats(args.flipped, mirrored_map, scratch.mirror);
    const int width = r.width, shift = args.flip_shift ? 1 : 0;
    for (int y = 0; y < r.height; ++y) {
      const float* a = plain + static_cast<int64_t>(y) * width;
      const float* b = mirror + static_cast<int64_t>(y) * width;
      float* to = scratch.map + static_cast<int64_t>(y) * width;
      const float first = merged(a[0], b[flipped_column(0, width, args.flip_shift)]);
      for (int x = shift; x < width; ++x) to[x] = merged(a[x], b[width - 1 + shift - x]);
      to[0] = first;
    }
    return scratch.map;
  }

  // One pixel of an offset map.
  FASTPOSE_INLINE float merged_pixel(int64_t map, int64_t mirrored_map, int x, int y, float mirror_sign) const {
    const int64_t row = static_cast<int64_t>(y) * r.width;
    const float value = sample(args.heatmaps, args.dtype, map * pixels + row + x);
    if (args.flipped == nullptr) return value;
    const int column = flipped_column(x, r.width, args.flip_shift);
    return merged(value, mirror_sign * sample(args.flipped, args.dtype, mirrored_map * pixels + row + column));
  }

  FASTPOSE_INLINE float at(const float* map, int x, int y) const { return map[static_cast<int64_t>(y) * r.width + x]; }

  FASTPOSE_INLINE void decode(int64_t i) const {
    const int64_t k = i % args.keypoints_k;
    const int64_t mirror = i - k + mirrored_keypoint(args, k);
    if (r.kind == CodecKind::UdpCombined) return decode_combined(i, mirror);
    const float* map = merged_map(i, mirror);
    if (r.kind == CodecKind::Megvii) return decode_megvii(i, map);
    const Peak peak = first_maximum(map, pixels, ahead);
    const int x = peak.index % r.width, y = peak.index / r.width;
    const bool found = peak.value > 0.f;
    Offset step = {0.f, 0.f};
    if (found && r.kind == CodecKind::Gaussian) {
      if (quarter_x(r, x, y)) step.x = 0.25f * sign_of(at(map, x + 1, y) - at(map, x - 1, y));
      if (quarter_y(r, x, y)) step.y = 0.25f * sign_of(at(map, x, y + 1) - at(map, x, y - 1));
    } else if (found && step_inside(r, x, y)) {
      ahead.ask(map + pixels, Ahead::kIdle, 24);
      const Around around = blur_around(r, map, x, y, scratch.blur);
      ahead.ask(map + pixels, Ahead::kIdle, 24);
      if (!taylor_step(r.kind, around, peak.value, &step)) {
        blur_map(r, map, false, scratch.blur, scratch.blurred);
        step = exact_step(r.kind, around, peak.value / first_maximum(scratch.blurred, pixels).value);
      }
    }
    store_keypoint(args, i, found, x, y, step, peak.value);
  }

  FASTPOSE_INLINE void decode_megvii(int64_t i, const float* map) const {
    const float* blurred = map;
    float factor = 1.f;
    const Peak peak = first_maximum(map, pixels);
    Peak found_at = peak;
    if (r.taps > 1) {
      blur_map(r, map, false, scratch.blur, scratch.blurred);
      blurred = scratch.blurred;
      found_at = first_maximum(blurred, pixels);
      factor = peak.value / found_at.value;
    }
    const bool found = found_at.value > 0.f, scalable = factor > 0.f && is_finite(factor);
    if (found && scalable) found_at.index = first_product(blurred, pixels, factor, found_at.value * factor);
    if (!scalable) factor = 1.f;
    const int x = found_at.index % r.width, y = found_at.index / r.width;
    Offset step = {0.f, 0.f};
    if (found && megvii_inside(r, x, y)) {
      step.x = 0.5f + 0.25f * sign_of(at(blurred, x + 1, y) * factor - at(blurred, x - 1, y) * factor);
      step.y = 0.5f + 0.25f * sign_of(at(blurred, x, y + 1) * factor - at(blurred, x, y - 1) * factor);
    }
    const bool empty = found_at.value == 0.f;
    const float score = found ? found_at.value * factor : min_of(peak.value, 0.f);
    store_keypoint(args, i, found || empty, empty ? 0 : x, empty ? 0 : y, step, score / 255.f + 0.5f);
  }

  FASTPOSE_INLINE void decode_combined(int64_t i, int64_t mirror) const {
    const float* map = merged_map(3 * i, 3 * mirror);
    blur_map(r, map, true, scratch.blur, scratch.blurred);
    const Peak peak = first_maximum(scratch.blurred, pixels);
    const int x = peak.index % r.width, y = peak.index / r.width;
    Offset step = {0.f, 0.f};
    if (peak.value > 0.f) {
      step.x = merged_pixel(3 * i + 1, 3 * mirror + 1, x, y, -1.f) * r.radius;
      step.y = merged_pixel(3 * i + 2, 3 * mirror + 2, x, y, 1.f) * r.radius;
    }
    store_keypoint(args, i, peak.value > 0.f, x, y, step, peak.value);
  }
};

}  // namespace

void heatmap_decode_cpu(const HeatmapDecodeArgs& args) {
  const HeatmapReading& r = args.reading;
  const int64_t pixels = static_cast<int64_t>(r.height) * r.width;
  parallel_for(args.batch * args.keypoints_k, 4, [&](int64_t begin, int64_t end) {
    Scratch scratch;
    scratch.map = thread_scratch(3 * pixels + 3 * Vec::lanes + blur_scratch(r));
    scratch.mirror = scratch.map + pixels + Vec::lanes;
    scratch.blurred = scratch.mirror + pixels + Vec::lanes;
    scratch.blur = BlurScratch(r, scratch.blurred + pixels + Vec::lanes);
    const bool in_place = args.dtype == DType::Float32 && args.flipped == nullptr;
    const char* maps = static_cast<const char*>(args.heatmaps);
    const int64_t bytes = pixels * static_cast<int64_t>(sizeof(float));
    const Ahead ahead = in_place ? Ahead{maps + begin * bytes, maps + end * bytes} : Ahead{nullptr, nullptr};
    const Reader reader{args, r, scratch, static_cast<int>(pixels), ahead};
    for (int64_t i = begin; i < end; ++i) reader.decode(i);
  });
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(heatmap_decode_cpu, HeatmapDecodeArgs)

}  // namespace fastpose
