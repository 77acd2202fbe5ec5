// Target heatmaps of a batch of poses.
#pragma once

#include <cstdint>

namespace fastpose {

enum class CodecKind : int32_t { Gaussian, Dark, Udp, UdpCombined, Megvii };

constexpr int kMaxTaps = 127;

// The parameters of a codec that decide what a target looks like.
struct HeatmapTarget {
  CodecKind kind;
  int32_t height, width;    // of a heatmap
  float scale_x, scale_y;   // input pixels in one heatmap pixel
  float sigma;              // heatmap pixels (Gaussian, Dark, Udp)
  double radius;            // of the disc, heatmap pixels (UdpCombined)
  int32_t taps;             // of the blur, odd (Megvii), else 1
  float tap[kMaxTaps + 1];  // the first `taps` count

  int32_t maps_per_keypoint() const { return kind == CodecKind::UdpCombined ? 3 : 1; }
};

struct HeatmapEncodeArgs {
  const float* keypoints;      // [B, K, 2] x, y in input pixels
  const float* visible;        // [B, K]
  const float* joint_weights;  // [K], or null
  float* heatmaps;             // [B, K, h, w]; UdpCombined [B, 3K, h, w]: disc, x offset, y offset
  float* weights;              // [B, K]
  int64_t batch, keypoints_k;
  HeatmapTarget target;
};

void heatmap_encode_cpu(const HeatmapEncodeArgs& args);
void heatmap_encode_cuda(const HeatmapEncodeArgs& args, void* stream);

}  // namespace fastpose
