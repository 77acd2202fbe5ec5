#include "core/cuda_launch.h"
#include "core/cuda_vector.h"
#include "simcc_decode/simcc_decode.h"
#include "simcc_decode/simcc_decode_math.h"

namespace fastpose {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

struct Peak {
  float value;
  int32_t bin;
};

// The larger value; of equal ones the first.
FASTPOSE_DEVICE Peak better(Peak a, Peak b) { return beats(b.value, a.value) || (b.value == a.value && b.bin < a.bin) ? b : a; }

FASTPOSE_DEVICE Peak warp_peak(Peak mine) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    mine = better(mine, {__shfl_xor_sync(0xffffffffu, mine.value, step), __shfl_xor_sync(0xffffffffu, mine.bin, step)});
  return mine;
}

// One vector, and that of the mirrored input if there is one, which runs from right to left along x.
template <class T, int axis>
struct Line {
  const T *plain, *mirror;
  int bins;

  FASTPOSE_DEVICE Line(const SimccDecodeArgs& args, int64_t i, int64_t mirrored_i)
      : plain(static_cast<const T*>(args.vectors[axis]) + i * args.reading.bins[axis]),
        mirror(args.flipped[axis] == nullptr ? nullptr : static_cast<const T*>(args.flipped[axis]) + mirrored_i * args.reading.bins[axis]),
        bins(args.reading.bins[axis]) {}

  FASTPOSE_DEVICE float at(int bin) const {
    const float value = to_float(read_only(plain + bin));
    return mirror == nullptr ? value : merged(value, to_float(read_only(mirror + (axis == 0 ? bins - 1 - bin : bin))));
  }

  // Calls f(value, bin) for this lane's bins, 16 bytes of them at once where the vectors are made of such.
  template <class F>
  FASTPOSE_DEVICE void each(int lane, F f) const {
    by_vectors<T>(bins % kVector<T> == 0 && begins_on_16(plain) && begins_on_16(mirror), [&](auto count) {
      constexpr int kCount = decltype(count)::value;
#pragma unroll 4
      for (int bin = lane * kCount; bin < bins; bin += 32 * kCount) {
        float values[kCount];
        load_vector<kCount>(plain + bin).get(values);
        if (mirror != nullptr) {
          float others[kCount];
          load_vector<kCount>(mirror + (axis == 0 ? bins - kCount - bin : bin)).get(others);
#pragma unroll
          for (int j = 0; j < kCount; ++j) values[j] = merged(values[j], others[axis == 0 ? kCount - 1 - j : j]);
        }
#pragma unroll
        for (int j = 0; j < kCount; ++j) f(values[j], bin + j);
      }
    });
  }

  // The first largest value, in each lane of the warp; -infinity if there is none above.
  FASTPOSE_DEVICE Peak peak(int lane) const {
    Peak best = {-INFINITY, 0x7fffffff};
    each(lane, [&](float value, int bin) {
      if (beats(value, best.value)) best = {value, bin};
    });
    return warp_peak(best);
  }

  // One bin of the blurred vector, tap by tap from the left, with zeros beyond the ends.
  FASTPOSE_DEVICE float blurred(const SimccReading& r, int bin) const {
    float sum = 0.f;
    const int taps = r.taps[axis], first = bin - taps / 2;
    for (int k = 0; k < taps; ++k) {
      const float value = first + k >= 0 && first + k < bins ? at(first + k) : 0.f;
      sum = k == 0 ? value * r.tap[axis][0] : fused(value, r.tap[axis][k], sum);
    }
    return sum;
  }
};

// The step of a keypoint, in each lane.
template <class T, int axis>
FASTPOSE_DEVICE float refine(const SimccReading& r, const Line<T, axis>& line, Peak peak, int lane) {
  constexpr int kCount = 2 * kSimccReach + 1;
  const float mine = lane < kCount ? line.blurred(r, clamp(peak.bin - kSimccReach + lane, 0, line.bins - 1)) : 0.f;
  SimccAround around;
#pragma unroll
  for (int j = 0; j < kCount; ++j) around.v[j] = __shfl_sync(0xffffffffu, mine, j);
  float step;
  if (simcc_step(around, peak.value, &step)) return step;  // the same for all lanes
  float most = -INFINITY;
  for (int bin = lane; bin < line.bins; bin += 32) most = fmaxf(most, line.blurred(r, bin));
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, offset));
  return simcc_exact_step(around, peak.value / most);
}

// The peak of the softmax, in each lane.
template <class T, int axis>
FASTPOSE_DEVICE float sharpness(const SimccReading& r, const Line<T, axis>& line, float peak, int lane) {
  float sum = 0.f;
  line.each(lane, [&](float value, int) {
    const float exponent = (value - peak) * r.sharpness[axis];
    if (exponent > -87.f) sum += expf(exponent);
  });
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  return is_finite(peak) ? 1.f / sum : 0.f;
}

// One warp a keypoint.
template <class T>
__global__ void __launch_bounds__(kThreads, 8) simcc_decode_kernel(const __grid_constant__ SimccDecodeArgs args) {
  const SimccReading& r = args.reading;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t count = args.batch * args.keypoints_k, stride = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; i < count; i += stride) {
    const int64_t mirror = simcc_mirrored(args, i);
    const Line<T, 0> x(args, i, mirror);
    const Line<T, 1> y(args, i, mirror);
    const Peak peak_x = x.peak(lane), peak_y = y.peak(lane);
    const float score = simcc_score(peak_x.value, peak_y.value);
    float bin_x = static_cast<float>(peak_x.bin), bin_y = static_cast<float>(peak_y.bin);
    if (score > 0.f && r.taps[0] > 0) bin_x += refine(r, x, peak_x, lane);
    if (score > 0.f && r.taps[1] > 0) bin_y += refine(r, y, peak_y, lane);
    float seen = 0.f;
    if (args.visibility != nullptr)
      seen = min_of(sharpness(r, x, peak_x.value, lane), sharpness(r, y, peak_y.value, lane));
    if (lane != 0) continue;
    store_simcc(args, i, bin_x, bin_y, score);
    if (args.visibility != nullptr) args.visibility[i] = seen;
  }
}

template <class T>
void launch(const SimccDecodeArgs& args, cudaStream_t stream) {
  const int64_t count = args.batch * args.keypoints_k;
  cuda_launch("simcc_decode", simcc_decode_kernel<T>, grid_blocks(count, kWarps, 1 << 20), kThreads, 0, stream, args);
}

}  // namespace

void simcc_decode_cuda(const SimccDecodeArgs& args, void* stream) {
  if (args.batch * args.keypoints_k == 0) return;
  switch (args.dtype) {
    case DType::Float16: return launch<__half>(args, as_stream(stream));
    case DType::BFloat16: return launch<__nv_bfloat16>(args, as_stream(stream));
    default: return launch<float>(args, as_stream(stream));
  }
}

}  // namespace fastpose
