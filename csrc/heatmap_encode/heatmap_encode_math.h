// What a target heatmap looks like: the arithmetic that the CPU and the CUDA sources of heatmap_encode and heatmap_loss share.
//
// Decided here
//   Gaussian, Udp   window of 3 sigma around the nearest pixel, which is trunc(p + 0.5): -1.4 belongs to pixel 0, as it does in MMPose
//   Dark            the whole map, but nothing below 1e-19, so that no product of two factors is a denormal number (100 times slower)
//   reach           a window that begins right of the map, or ends left of pixel 0, does not reach it: weight 0. One that ends at pixel 0,
//                   exclusively, reaches it with nothing: weight kept, as in MMPose
//   UdpCombined     a pixel at exactly the radius belongs to the disc (in double precision)
//   Megvii          pixel trunc(p); blur with the border mirrored about the outermost pixels, in OpenCV's order of additions
//   visible         below 0.5: no heatmap; at most 1; NaN is 0. A keypoint that is not finite has no heatmap and weight 0
#pragma once

#include "core/host_device.h"
#include "heatmap_encode/heatmap_encode.h"

namespace fastpose {

// Beyond this no window reaches a map, and floats still hold every integer.
constexpr float kFarAway = 4194304.f;
constexpr float kSmallestFactor = 1.1e-19f;

FASTPOSE_HD float visible_level(float visible) { return visible > 0.f ? min_of(visible, 1.f) : 0.f; }

FASTPOSE_HD bool is_drawn(float level) { return level >= 0.5f; }

// Pixel 0 <= result < size that `index` falls on when the line is mirrored about its outermost pixels, as often as it takes.
FASTPOSE_HD int mirrored(int index, int size) {
  if (index < 0) index = -index;
  if (index < size) return index;
  const int back = 2 * size - 2 - index;
  if (back >= 0) return back;
  if (size == 1) return 0;
  index %= 2 * size - 2;  // a blur wider than the map; rare, and a division is slow
  return index < size ? index : 2 * size - 2 - index;
}

// Where one keypoint stands in its heatmap.
struct TargetPlace {
  bool reaches;              // the map is not all zero for lack of reach
  float x, y;                // heatmap pixels: centre of the Gaussian, of the disc; Megvii: the pixel
  int32_t x0, x1, y0, y1;    // pixels x0 <= x < x1, y0 <= y < y1 may be non-zero (UdpCombined: of the disc)
};

FASTPOSE_HD int32_t clamped_pixel(float value, int32_t size) {
  return static_cast<int32_t>(clamp(value, 0.f, static_cast<float>(size)));
}

FASTPOSE_HD TargetPlace target_place(const HeatmapTarget& t, float keypoint_x, float keypoint_y) {
  TargetPlace p = {false, 0.f, 0.f, 0, 0, 0, 0};
  const float x = keypoint_x / t.scale_x, y = keypoint_y / t.scale_y;
  if (!is_finite(x) || !is_finite(y)) return p;
  p.x = clamp(x, -kFarAway, kFarAway);
  p.y = clamp(y, -kFarAway, kFarAway);
  const float width = static_cast<float>(t.width), height = static_cast<float>(t.height);
  if (t.kind == CodecKind::UdpCombined) {
    const float reach = static_cast<float>(t.radius) + 1.f;
    p.reaches = true;
    p.x0 = clamped_pixel(floorf(p.x - reach), t.width);
    p.x1 = clamped_pixel(floorf(p.x + reach) + 2.f, t.width);
    p.y0 = clamped_pixel(floorf(p.y - reach), t.height);
    p.y1 = clamped_pixel(floorf(p.y + reach) + 2.f, t.height);
    return p;
  }
  if (t.kind == CodecKind::Megvii) {
    p.x = truncf(p.x);
    p.y = truncf(p.y);
    p.reaches = p.x >= 0.f && p.x < width && p.y >= 0.f && p.y < height;
    if (!p.reaches) return p;
    const int radius = t.taps / 2;
    const float reach = static_cast<float>(radius);
    p.x0 = clamped_pixel(p.x - reach, t.width);
    p.x1 = clamped_pixel(p.x + reach + 1.f, t.width);
    p.y0 = clamped_pixel(p.y - reach, t.height);
    p.y1 = clamped_pixel(p.y + reach + 1.f, t.height);
    return p;
  }
  const float reach = static_cast<float>(3.0 * static_cast<double>(t.sigma));
  float left, top, right, bottom;
  if (t.kind == CodecKind::Dark) {
    left = p.x - reach, right = p.x + reach + 1.f;
    top = p.y - reach, bottom = p.y + reach + 1.f;
  } else {
    const float column = truncf(p.x + 0.5f), row = truncf(p.y + 0.5f);
    left = floorf(column - reach), right = floorf(column + reach + 1.f);
    top = floorf(row - reach), bottom = floorf(row + reach + 1.f);
    if (t.kind == CodecKind::Gaussian) {
      p.x = column;
      p.y = row;
    }
  }
  p.reaches = left < width && top < height && right >= 0.f && bottom >= 0.f;
  if (!p.reaches) return p;
  if (t.kind == CodecKind::Dark) {  // where the factor is above kSmallestFactor = exp(-43.6)
    const float seen = 9.34f * t.sigma;
    left = floorf(p.x - seen), right = floorf(p.x + seen) + 2.f;
    top = floorf(p.y - seen), bottom = floorf(p.y + seen) + 2.f;
  }
  p.x0 = clamped_pixel(left, t.width);
  p.x1 = clamped_pixel(right, t.width);
  p.y0 = clamped_pixel(top, t.height);
  p.y1 = clamped_pixel(bottom, t.height);
  return p;
}

// Weight of a keypoint whose visibility is `level`: kept where nothing was to be drawn, 0 where the map was not reached.
FASTPOSE_HD float target_weight(float level, const TargetPlace& place, float keypoint_x, float keypoint_y) {
  if (!is_finite(keypoint_x) || !is_finite(keypoint_y)) return 0.f;
  return is_drawn(level) && !place.reaches ? 0.f : level;
}

// One of the two factors of a Gaussian, before the exponential.
FASTPOSE_HD float gaussian_exponent(float pixel, float centre, float sigma) {
  const float d = pixel - centre;
  return -(d * d) / (2.f * sigma * sigma);
}

FASTPOSE_HD double disc_offset(float centre, int pixel, double radius) {
  return (static_cast<double>(centre) - static_cast<double>(pixel)) / radius;
}

FASTPOSE_HD bool in_disc(double offset_x, double offset_y) { return offset_x * offset_x + offset_y * offset_y <= 1.0; }

// A one at `centre`, blurred along one line: its value at `pixel`. Additions from the first tap to the last.
FASTPOSE_HD float blurred_row(const HeatmapTarget& t, int centre, int pixel, int size) {
  const int radius = t.taps / 2;
  if (centre > radius && centre + radius < size - 1) return t.tap[pixel - centre + radius];  // no reflection comes near
  float sum = 0.f;
  for (int i = 0; i < t.taps; ++i)
    if (mirrored(pixel + i - radius, size) == centre) sum += t.tap[i];
  return sum;
}

// The same across lines whose only non-zero one, `centre`, holds `value`: pairs of taps from the middle outward.
FASTPOSE_HD float blurred_column(const HeatmapTarget& t, int centre, int pixel, int size, float value) {
  const int radius = t.taps / 2;
  if (centre > radius && centre + radius < size - 1) return value * t.tap[pixel - centre + radius];
  float sum = pixel == centre ? value * t.tap[radius] : 0.f;
  for (int i = 1; i <= radius; ++i) {
    const int hits = (mirrored(pixel + i, size) == centre) + (mirrored(pixel - i, size) == centre);
    if (hits > 0) sum = fused(static_cast<float>(hits) * value, t.tap[radius + i], sum);
  }
  return sum;
}

FASTPOSE_HD float megvii_value(float blurred, float blurred_at_centre) { return blurred / blurred_at_centre * 255.f; }

}  // namespace fastpose
