// How a keypoint is read from a heatmap: the arithmetic that the CPU and the CUDA sources of heatmap_decode share.
//
// Decided here
//   arg-max         the first largest value in row-major order; NaN never wins; a map with nothing above -infinity has score 0 at pixel 0
//   score <= 0      Gaussian and Dark report (-1, -1) times the scale, the Udp kinds the pixel, unrefined. Megvii, whose scores begin at
//                   0.5, reports (-1, -1) for a negative map and pixel 0 for an empty one
//   flip            (map + mirrored) * 0.5; shifted by one, column 0 keeps the mirrored column 0
//   refinement      none where the keypoint would not be finite with it
//
// Dark and Udp take a Newton step on the logarithm of the blurred map. MMPose scales the blurred map to the old maximum first and clips it;
// a constant factor drops out of every derivative, so that the blur of a few pixels around the peak is enough, unless a value is clipped
// (then the factor matters) or the Hessian is so small that the rounding of the logarithms decides. taylor_step() tells when it is so;
// exact_step() then repeats MMPose's float32 operations with the factor, for which the whole map must have been blurred.
#pragma once

#include "core/host_device.h"
#include "heatmap_decode/heatmap_decode.h"
#include "heatmap_encode/heatmap_encode_math.h"

namespace fastpose {

FASTPOSE_HD bool beats(float value, float best) { return value > best; }

FASTPOSE_HD float merged(float value, float mirrored_value) { return (value + mirrored_value) * 0.5f; }

// Column of the mirrored map that falls on column x.
FASTPOSE_HD int flipped_column(int x, int width, bool shift) { return shift && x > 0 ? width - x : width - 1 - x; }

// Keypoint whose mirrored map belongs to keypoint k. On the CPU the caller has refused indices beyond the keypoints; on CUDA nobody could look
// without waiting for the device, and the nearest keypoint is taken instead of memory that is not ours.
template <class Args>
FASTPOSE_HD int64_t mirrored_keypoint(const Args& args, int64_t k) {
  return args.flip_index == nullptr ? k : clamp<int64_t>(args.flip_index[k], 0, args.keypoints_k - 1);
}

struct Offset { float x, y; };

FASTPOSE_HD float sign_of(float d) { return d > 0.f ? 1.f : (d < 0.f ? -1.f : 0.f); }  // NaN: 0

FASTPOSE_HD bool between(int value, int low, int high) { return low < value && value < high; }

// --- quarter of a pixel ---------------------------------------------------------------------------------------------------------
FASTPOSE_HD bool quarter_x(const HeatmapReading& r, int x, int y) { return between(x, 1, r.width - 1) && between(y, 0, r.height); }
FASTPOSE_HD bool quarter_y(const HeatmapReading& r, int x, int y) { return between(y, 1, r.height - 1) && between(x, 0, r.width); }
FASTPOSE_HD bool megvii_inside(const HeatmapReading& r, int x, int y) { return between(x, 1, r.width - 1) && between(y, 1, r.height - 1); }

// --- Newton step on the logarithm -------------------------------------------------------------------------------------------------
// Blurred values around the peak, by rows from the top and columns from the left: [2 + dy][2 + dx]. Dark reads a cross of five and the
// corners of three, Udp seven of the inner nine (pixels beyond the border repeat the outermost ones).
struct Around { float v[5][5]; };

constexpr int kDarkReach = 2, kUdpReach = 1;

FASTPOSE_HD int step_reach(CodecKind kind) { return kind == CodecKind::Dark ? kDarkReach : kUdpReach; }

FASTPOSE_HD bool step_inside(const HeatmapReading& r, int x, int y) {
  return r.kind != CodecKind::Dark || (between(x, 1, r.width - 2) && between(y, 1, r.height - 2));
}

constexpr float kUdpLow = 1e-3f, kUdpHigh = 50.f, kDarkLow = 1e-10f;

// |inverse Hessian| times (1 + |step|) beyond which rounding moves the step by more than about 1e-4 heatmap pixels.
constexpr float kWorstCondition = 100.f;

// Gradient and Hessian to a step; false where there is none.
template <class T>
FASTPOSE_HD bool newton(T gx, T gy, T xx, T yy, T xy, Offset* step) {
  const T determinant = xx * yy - xy * xy;
  step->x = static_cast<float>((xy * gy - yy * gx) / determinant);
  step->y = static_cast<float>((xy * gx - xx * gy) / determinant);
  return is_finite(step->x) && is_finite(step->y);
}

// The step if it does not depend on the scale of the map; false if exact_step() is needed. `peak` is the largest value before the blur.
FASTPOSE_HD bool taylor_step(CodecKind kind, const Around& a, float peak, Offset* step) {
  const bool dark = kind == CodecKind::Dark;
  const float low = dark ? kDarkLow : kUdpLow;
  if (!dark && !(peak <= kUdpHigh)) return false;
  const float c = a.v[2][2], left = a.v[2][1], right = a.v[2][3], above = a.v[1][2], below = a.v[3][2];
  const float first = a.v[1][1], last = a.v[3][3];
  float smallest = min_of(min_of(min_of(c, left), min_of(right, above)), min_of(min_of(below, first), last));
  float sum = c + left + right + above + below + first + last;  // NaN if one of them is; infinite where a ratio could be
  const float gx = 0.5f * logf(right / left), gy = 0.5f * logf(below / above);
  float xx, yy, xy;
  if (dark) {
    const float left2 = a.v[2][0], right2 = a.v[2][4], above2 = a.v[0][2], below2 = a.v[4][2];
    const float corner_a = a.v[1][3], corner_b = a.v[3][1];
    smallest = min_of(smallest, min_of(min_of(min_of(left2, right2), min_of(above2, below2)), min_of(corner_a, corner_b)));
    sum += left2 + right2 + above2 + below2 + corner_a + corner_b;
    xx = 0.25f * logf((right2 / c) * (left2 / c));
    yy = 0.25f * logf((below2 / c) * (above2 / c));
    xy = 0.25f * logf((last / corner_a) * (first / corner_b));
  } else {
    xx = logf((right / c) * (left / c));
    yy = logf((below / c) * (above / c));
    xy = 0.5f * logf((last / right) * (c / below) * ((c / left) * (first / above)));
  }
  if (!(smallest >= low) || !is_finite(sum)) return false;
  if (!newton(gx, gy, xx, yy, xy, step)) return false;
  const float largest = max_of(max_of(fabsf(xx), fabsf(yy)), fabsf(xy));
  return largest * (1.f + fabsf(step->x) + fabsf(step->y)) <= kWorstCondition * fabsf(xx * yy - xy * xy);
}

// Natural logarithm of a positive normal float with NumPy's rounding: its rational function (BSD-3) of the mantissa, in
// [sqrt(1/2), sqrt(2)), minus one.
FASTPOSE_HD float log_as_numpy(float x) {
  if (!is_finite(x)) return x;
  int32_t bits;
  memcpy(&bits, &x, 4);
  int32_t exponent = ((bits >> 23) & 0xff) - 126;
  bits = (bits & 0x007fffff) | 0x3f000000;
  float m;
  memcpy(&m, &bits, 4);  // in [0.5, 1)
  if (m <= 0.70710678118f) {
    m += m;
    --exponent;
  }
  m -= 1.f;
  float over = 2.589979117907922693523e-02f;
  over = fused(over, m, 3.808837741388407920751e-01f);
  over = fused(over, m, 1.480000633576506585156e+00f);
  over = fused(over, m, 2.112677543073053063722e+00f);
  over = fused(over, m, 9.999999999999998702752e-01f);
  over = fused(over, m, 0.f);
  float under = 5.875095403124574342950e-03f;
  under = fused(under, m, 1.546476374983906719538e-01f);
  under = fused(under, m, 9.864942958519418960339e-01f);
  under = fused(under, m, 2.453006071784736363091e+00f);
  under = fused(under, m, 2.612677543073109236779e+00f);
  under = fused(under, m, 1.f);
  return fused(static_cast<float>(exponent), 0.693147180559945f, over / under);
}

FASTPOSE_HD float scaled_log(CodecKind kind, float value, float factor) {
  const float v = value * factor;
  return log_as_numpy(kind == CodecKind::Dark ? (v < kDarkLow ? kDarkLow : v) : clamp(v, kUdpLow, kUdpHigh));
}

// log(v) around the peak, after scale and clip. A struct, because a lambda that is not inlined would be a symbol of its own.
struct ScaledLogs {
  const Around& around;
  CodecKind kind;
  float factor;
  FASTPOSE_HD float operator()(int dx, int dy) const { return scaled_log(kind, around.v[2 + dy][2 + dx], factor); }
};

// The step with MMPose's float32 operations; `factor` is the maximum before the blur over the maximum after it.
FASTPOSE_HD Offset exact_step(CodecKind kind, const Around& a, float factor) {
  Offset step = {0.f, 0.f};
  if (!(factor > 0.f) || !is_finite(factor)) return step;
  const ScaledLogs at = {a, kind, factor};
  const float c = at(0, 0), left = at(-1, 0), right = at(1, 0), above = at(0, -1), below = at(0, 1);
  const float gx = 0.5f * (right - left), gy = 0.5f * (below - above);
  float xx, yy, xy;
  double ridge = 0.0;
  if (kind == CodecKind::Dark) {
    xx = 0.25f * (at(2, 0) - 2.f * c + at(-2, 0));
    yy = 0.25f * (at(0, 2) - 2.f * c + at(0, -2));
    xy = 0.25f * (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1));
  } else {
    xx = right - 2.f * c + left;
    yy = below - 2.f * c + above;
    xy = 0.5f * (at(1, 1) - right - below + c + c - left - above + at(-1, -1));
    ridge = 1.1920928955078125e-07;
  }
  if (!newton<double>(gx, gy, xx + ridge, yy + ridge, xy, &step)) step = {0.f, 0.f};
  return step;
}

// --- the end ------------------------------------------------------------------------------------------------------------------
// Stores one keypoint of heatmaps or vectors: (x, y) in pixels of the crop, or of the source where the matrix back is given.
template <class Args>
FASTPOSE_HD void store_point(const Args& args, int64_t index, float x, float y, float score) {
  if (args.inverse != nullptr) {
    const double* m = args.inverse + index / args.keypoints_k * 6;
    const double px = x, py = y;
    x = static_cast<float>(m[0] * px + m[1] * py + m[2]);
    y = static_cast<float>(m[3] * px + m[4] * py + m[5]);
  }
  args.keypoints[2 * index] = x;
  args.keypoints[2 * index + 1] = y;
  args.scores[index] = score;
}

// Stores one keypoint: the pixel and its refinement, before the scale.
FASTPOSE_HD void store_keypoint(const HeatmapDecodeArgs& args, int64_t index, bool found, int column, int row, Offset step, float score) {
  const HeatmapReading& r = args.reading;
  const bool udp = r.kind == CodecKind::Udp || r.kind == CodecKind::UdpCombined;
  if (!found && !udp) column = row = -1;
  float x = (static_cast<float>(column) + step.x) * r.scale_x, y = (static_cast<float>(row) + step.y) * r.scale_y;
  if (!is_finite(x) || !is_finite(y)) {
    x = static_cast<float>(column) * r.scale_x;
    y = static_cast<float>(row) * r.scale_y;
  }
  store_point(args, index, x, y, score);
}

}  // namespace fastpose
