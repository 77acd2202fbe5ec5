#include "nms/nms_cuda.h"
#include "oks_nms/oks_nms.h"
#include "oks_nms/oks_nms_math.h"

namespace fastpose {
namespace {

template <class T>
struct PosePairs {
  const T* poses;        // [N, K, channels]
  const double* areas;   // [N]
  const double* sigmas;  // [K]
  int64_t keypoints, channels;
  double threshold;

  FASTPOSE_DEVICE double oks(int64_t i, int64_t j) const {
    const int64_t size = keypoints * channels;
    return oks_of_pair(poses + i * size, poses + j * size, keypoints, channels, channels, sigmas, static_cast<const uint8_t*>(nullptr),
                       oks_area_of_pair(areas[i], areas[j]));
  }
  FASTPOSE_DEVICE bool suppresses(int64_t i, int64_t j) const { return nms_suppresses(oks(i, j), threshold); }
  FASTPOSE_DEVICE double lowered(double score, int64_t i, int64_t j) const { return nms_rescored(score, oks(i, j), threshold); }
};

template <class T>
void launch(const OksNmsArgs& args, cudaStream_t stream) {
  const PosePairs<T> pairs{static_cast<const T*>(args.poses), args.areas, args.sigmas, args.keypoints, args.channels, args.threshold};
  launch_nms("oks_nms", pairs, nms_task(args, args.poses_n, nullptr, -HUGE_VAL, args.max_per_image), args.soft, stream);
}

}  // namespace

void oks_nms_cuda(const OksNmsArgs& args, void* stream) {
  if (args.poses_n == 0) {
    cuda_check(cudaMemsetAsync(args.count, 0, sizeof(int64_t), as_stream(stream)), "oks_nms: count");
  } else if (args.dtype == DType::Float64) {
    launch<double>(args, as_stream(stream));
  } else {
    launch<float>(args, as_stream(stream));
  }
}

}  // namespace fastpose
