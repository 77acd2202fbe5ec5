#include "box_nms/box_nms_math.h"
#include "nms/nms_cuda.h"

namespace fastpose {
namespace {

template <class T>
struct BoxPairs {
  const T* boxes;  // [N, 4]
  T limit;
  BoxNmsMethod method;
  double sigma;

  FASTPOSE_DEVICE T overlap(int64_t i, int64_t j) const {
    T a[4], b[4];
    for (int c = 0; c < 4; ++c) a[c] = read_only(boxes + 4 * i + c), b[c] = read_only(boxes + 4 * j + c);
    return box_overlap(a, b, box_area(a[0], a[1], a[2], a[3]), box_area(b[0], b[1], b[2], b[3]));
  }
  FASTPOSE_DEVICE bool suppresses(int64_t i, int64_t j) const { return overlap(i, j) > limit; }
  FASTPOSE_DEVICE double lowered(double score, int64_t i, int64_t j) const {
    const T value = overlap(i, j);
    return value > limit ? box_nms_rescored(score, static_cast<double>(value), method, sigma) : score;
  }
};

template <class T>
void launch(const BoxNmsArgs& args, cudaStream_t stream) {
  const BoxPairs<T> pairs{static_cast<const T*>(args.boxes), box_nms_limit<T>(args.method, args.threshold), args.method, args.sigma};
  const NmsTask task = nms_task(args, args.boxes_n, args.classes, args.min_score, args.most);
  launch_nms("box_nms", pairs, task, args.method != BoxNmsMethod::Hard, stream);
}

}  // namespace

void box_nms_cuda(const BoxNmsArgs& args, void* stream) {
  if (args.boxes_n == 0) {
    cuda_check(cudaMemsetAsync(args.count, 0, sizeof(int64_t), as_stream(stream)), "box_nms: count");
  } else if (args.dtype == DType::Float64) {
    launch<double>(args, as_stream(stream));
  } else {
    launch<float>(args, as_stream(stream));
  }
}

}  // namespace fastpose
