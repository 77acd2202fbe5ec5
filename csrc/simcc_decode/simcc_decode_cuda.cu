#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "simcc_decode/simcc_decode.h"
#include "simcc_decode/simcc_decode_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128;

struct Peak {
  float value;
  int32_t index;
};

// The larger value; of equal ones the first.
FASTPOSE_DEVICE Peak better(Peak a, Peak b) { return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a; }

FASTPOSE_DEVICE float warp_sum(float mine) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) mine += __shfl_xor_sync(0xffffffffu, mine, step);
  return mine;
}

// One vector of a keypoint, averaged with the mirrored one if there is one.
template <class T>
struct Line {
  const T *plain, *mirror;
  int32_t size;
  bool reversed;
  FASTPOSE_DEVICE float at(int i) const {
    const float value = to_float(read_only(plain + i));
    return mirror == nullptr ? value : simcc_merged(value, to_float(read_only(mirror + (reversed ? size - 1 - i : i))));
  }
};

template <class T>
FASTPOSE_DEVICE Line<T> line_of(const void* plain, const void* flipped, int64_t i, int64_t mirror, int32_t size, bool reversed) {
  const T* other = flipped == nullptr ? nullptr : static_cast<const T*>(flipped) + mirror * size;
  return {static_cast<const T*>(plain) + i * size, other, size, reversed};
}

// The peak of a warp's line, in all lanes; -infinity in bin 0 if there is none.
template <class Values>
FASTPOSE_DEVICE Peak warp_peak(int size, Values at) {
  Peak mine = {-INFINITY, 0x7fffffff};
  for (int i = static_cast<int>(threadIdx.x % 32); i < size; i += 32) {
    const float value = at(i);
    if (value > mine.value) mine = {value, i};
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    mine = better(mine, {__shfl_xor_sync(0xffffffffu, mine.value, step), __shfl_xor_sync(0xffffffffu, mine.index, step)});
  return mine.value == -INFINITY ? Peak{-INFINITY, 0} : mine;
}

template <class T>
FASTPOSE_DEVICE float softmax_peak(const Line<T>& line, float largest, float sharpness) {
  float sum = 0.f;
  for (int i = static_cast<int>(threadIdx.x % 32); i < line.size; i += 32) sum += expf((line.at(i) - largest) * sharpness);
  return 1.f / warp_sum(sum);
}

template <class T>
FASTPOSE_DEVICE float blurred(const Line<T>& line, const SimccAxis& axis, int at) {
  const int reach = axis.taps / 2;
  float sum = 0.f;
  for (int t = max_of(0, reach - at); t < min_of(axis.taps, line.size - at + reach); ++t) sum = fused(line.at(at + t - reach), axis.tap[t], sum);
  return sum;
}

template <class T>
FASTPOSE_DEVICE float refined(const Line<T>& line, const SimccAxis& axis, Peak peak) {
  const float factor = peak.value / warp_peak(line.size, [&](int i) { return blurred(line, axis, i); }).value;
  // A lane a bin; those beyond the fifth do the same as others, and are not asked.
  const int bin = peak.index + static_cast<int>(threadIdx.x % 32) - 2;
  const float mine = simcc_log(blurred(line, axis, clamp(bin, 0, line.size - 1)) * factor);
  float logs[5];
#pragma unroll
  for (int j = 0; j < 5; ++j) logs[j] = __shfl_sync(0xffffffffu, mine, j);
  return simcc_refined(static_cast<float>(peak.index), logs);
}

// A warp a keypoint.
template <class T>
__global__ void __launch_bounds__(kThreads) simcc_decode_kernel(const SimccDecodeArgs args) {
  const int64_t count = args.batch * args.keypoints_k;
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kThreads / 32);
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32; i < count; i += step) {
    const int64_t person = i / args.keypoints_k, first = person * args.keypoints_k;
    const int64_t mirror = first + simcc_mirrored_keypoint(args, i - first);
    const Line<T> x = line_of<T>(args.x, args.flipped_x, i, mirror, args.axis_x.size, true);
    const Line<T> y = line_of<T>(args.y, args.flipped_y, i, mirror, args.axis_y.size, false);
    const Peak peak_x = warp_peak(x.size, [&](int j) { return x.at(j); });
    const Peak peak_y = warp_peak(y.size, [&](int j) { return y.at(j); });
    if (args.visibility != nullptr) {
      const float visible = min_of(softmax_peak(x, peak_x.value, args.axis_x.sharpness), softmax_peak(y, peak_y.value, args.axis_y.sharpness));
      if (threadIdx.x % 32 == 0) args.visibility[i] = visible;
    }
    const float score = min_of(peak_x.value, peak_y.value);
    float place_x = -1.f, place_y = -1.f;
    if (score > 0.f) {
      place_x = args.axis_x.taps > 0 ? refined(x, args.axis_x, peak_x) : static_cast<float>(peak_x.index);
      place_y = args.axis_y.taps > 0 ? refined(y, args.axis_y, peak_y) : static_cast<float>(peak_y.index);
    }
    if (threadIdx.x % 32 == 0) simcc_store(args, i, person, place_x, place_y, score > -INFINITY ? score : 0.f);
  }
}

template <class T>
void launch(const SimccDecodeArgs& args, void* stream) {
  const unsigned blocks = grid_blocks(args.batch * args.keypoints_k, kThreads / 32);
  cuda_launch("simcc_decode", simcc_decode_kernel<T>, dim3(blocks), kThreads, 0, as_stream(stream), args);
}

}  // namespace

void simcc_decode_cuda(const SimccDecodeArgs& args, void* stream) {
  if (args.batch * args.keypoints_k == 0) return;
  switch (args.dtype) {
    case DType::Float16: return launch<__half>(args, stream);
    case DType::BFloat16: return launch<__nv_bfloat16>(args, stream);
    default: return launch<float>(args, stream);
  }
}

}  // namespace fastpose
