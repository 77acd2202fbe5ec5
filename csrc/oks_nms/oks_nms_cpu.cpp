#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "nms/nms_sort.h"
#include "oks/oks_lanes.h"
#include "oks_nms/oks_nms.h"
#include "oks_nms/oks_nms_math.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

struct Work {
  int64_t* order;   // [N]: by image, then best first; order[p] is a pose
  int64_t* spare;   // [N]
  int64_t* starts;  // [images + 1]: positions at which an image begins
  double* final;    // [N] by pose: score as it ends
  uint8_t* kept;    // [N] by pose
  int64_t images;
};

// How the float comparison is arranged, the same for all images.
struct Lanes {
  bool usable;                // poses are float32 and the sigmas fit
  int64_t* sequence;          // [K]: keypoints, those of the smallest sigma first: they decide soonest that poses differ
  float* inverse_spread;      // [K] in that sequence
  float* needed;              // [K]: after keypoint sequence[k] a sum not above this can no longer reach the threshold
  float certainly, possibly;  // the sum is above the threshold for certain, or perhaps: then double decides
};

template <class T>
FASTPOSE_INLINE double exact_oks(const OksNmsArgs& args, int64_t i, int64_t j) {
  const int64_t size = args.keypoints * args.channels;
  const T* poses = static_cast<const T*>(args.poses);
  return oks_of_pair(poses + i * size, poses + j * size, args.keypoints, args.channels, args.channels, args.sigmas,
                     static_cast<const uint8_t*>(nullptr), oks_area_of_pair(args.areas[i], args.areas[j]));
}

// --- one image, pair by pair in double -----------------------------------------------------------------------------------------
template <class T>
void hard_exact(const OksNmsArgs& args, const Work& work, const int64_t* order, int64_t n) {
  int64_t left = args.max_per_image;
  for (int64_t p = 0; p < n; ++p) work.kept[order[p]] = 1;
  for (int64_t p = 0; p < n; ++p) {
    if (!work.kept[order[p]]) continue;
    if (left-- <= 0) {
      work.kept[order[p]] = 0;
      continue;
    }
    for (int64_t q = p + 1; q < n; ++q)
      if (work.kept[order[q]] && nms_suppresses(exact_oks<T>(args, order[p], order[q]), args.threshold)) work.kept[order[q]] = 0;
  }
}

// Position of the best pose that is not kept yet, or -1.
int64_t best_left(const Work& work, const int64_t* order, int64_t n) {
  int64_t best = -1;
  for (int64_t p = 0; p < n; ++p) {
    const int64_t i = order[p];
    if (!work.kept[i] && (best < 0 || nms_before(work.final[i], i, work.final[order[best]], order[best]))) best = p;
  }
  return best;
}

template <class T>
void soft_exact(const OksNmsArgs& args, const Work& work, const int64_t* order, int64_t n) {
  for (int64_t round = 0; round < n && round < args.max_per_image; ++round) {
    const int64_t chosen = order[best_left(work, order, n)];
    work.kept[chosen] = 1;
    for (int64_t p = 0; p < n; ++p) {
      const int64_t i = order[p];
      if (!work.kept[i]) work.final[i] = nms_rescored(work.final[i], exact_oks<T>(args, chosen, i), args.threshold);
    }
  }
}

// --- one image, a vector of poses at a time --------------------------------------------------------------------------------------
// Puts the poses of an image into columns, in its order; false if they do not fit.
bool put_columns(const OksNmsArgs& args, const OksColumns& columns, const int64_t* order, int64_t n) {
  bool fits = true;
  for (int64_t p = 0; p < n; ++p)
    fits &= oks_put(columns, p, static_cast<const float*>(args.poses) + order[p] * args.keypoints * args.channels, args.keypoints,
                    args.channels, args.areas[order[p]]);
  oks_clear_rest(columns, n, args.keypoints);
  return fits;
}

FASTPOSE_INLINE Vec inverse_area_with(const OksColumns& columns, int64_t p, int64_t m) {
  return oks_inverse_area((set(columns.area[p]) + load(columns.area + m)) * set(0.5f));
}

FASTPOSE_INLINE Vec agreement_with(const OksColumns& columns, const Lanes& lanes, int64_t k, int64_t p, int64_t m,
                                   Vec inverse_area) {
  const float* x = columns.x + lanes.sequence[k] * columns.pitch;
  const float* y = columns.y + lanes.sequence[k] * columns.pitch;
  return oks_agreement(load(x + m) - set(x[p]), load(y + m) - set(y[p]), set(lanes.inverse_spread[k]), inverse_area);
}

// Which of the poses `wanted` (bits, from position m) pose p suppresses. Float decides what is clear, double the rest, so that the
// result is that of hard_exact.
FASTPOSE_INLINE uint32_t suppressed_by(const OksNmsArgs& args, const Lanes& lanes, const OksColumns& columns,
                                       const int64_t* order, int64_t p, int64_t m, uint32_t wanted) {
  const Vec inverse_area = inverse_area_with(columns, p, m);
  Vec sum = zero();
  for (int64_t k = 0; k < args.keypoints; ++k) {
    sum += agreement_with(columns, lanes, k, p, m, inverse_area);
    if (lanes.needed[k] >= 0.f && (bits(sum > set(lanes.needed[k])) & wanted) == 0) return 0;
  }
  uint32_t result = bits(sum > set(lanes.certainly)) & wanted;
  for (uint32_t doubtful = bits(sum > set(lanes.possibly)) & wanted & ~result; doubtful != 0; doubtful &= doubtful - 1) {
    const int lane = __builtin_ctz(doubtful);
    if (nms_suppresses(exact_oks<float>(args, order[p], order[m + lane]), args.threshold)) result |= 1u << lane;
  }
  return result;
}

// `alive`: bit q % lanes of word q / lanes says that the pose at position q is not suppressed yet.
void hard_lanes(const OksNmsArgs& args, const Lanes& lanes, const Work& work, const OksColumns& columns, uint32_t* alive,
                const int64_t* order, int64_t n) {
  constexpr uint32_t kAll = (1u << Vec::lanes) - 1u;
  const int64_t words = columns.pitch / Vec::lanes, rest = n % Vec::lanes;
  for (int64_t w = 0; w < words; ++w) alive[w] = kAll;
  if (rest != 0) alive[words - 1] = (1u << rest) - 1u;
  int64_t left = args.max_per_image;
  for (int64_t p = 0; p < n && left > 0; ++p) {
    const int64_t own = p / Vec::lanes;
    if (((alive[own] >> (p % Vec::lanes)) & 1u) == 0) continue;
    work.kept[order[p]] = 1;
    --left;
    uint32_t wanted = alive[own] & ~((2u << (p % Vec::lanes)) - 1u);  // those behind p
    for (int64_t w = own; w < words; ++w) {
      if (w > own) wanted = alive[w];
      if (wanted != 0) alive[w] &= ~suppressed_by(args, lanes, columns, order, p, w * Vec::lanes, wanted);
    }
  }
}

// Where poses resemble each other the score follows from the OKS in double; below this the float one gives the same but for 1e-8.
constexpr float kAlike = 1e-3f;

void soft_lanes(const OksNmsArgs& args, const Lanes& lanes, const Work& work, const OksColumns& columns, const int64_t* order,
                int64_t n) {
  const Vec share = set(1.f / static_cast<float>(args.keypoints));
  for (int64_t round = 0; round < n && round < args.max_per_image; ++round) {
    const int64_t p = best_left(work, order, n);
    work.kept[order[p]] = 1;
    for (int64_t m = 0; m < n; m += Vec::lanes) {
      const Vec inverse_area = inverse_area_with(columns, p, m);
      Vec sum = zero();
      for (int64_t k = 0; k < args.keypoints; ++k) sum += agreement_with(columns, lanes, k, p, m, inverse_area);
      float oks[Vec::lanes];
      store(oks, sum * share);
      for (int64_t q = m; q < min_of(m + Vec::lanes, n); ++q) {
        const int64_t i = order[q];
        if (work.kept[i]) continue;
        const double value = oks[q - m] > kAlike ? exact_oks<float>(args, order[p], i) : static_cast<double>(oks[q - m]);
        if (value * value < args.threshold * 1e-17) continue;  // the factor would round to 1
        work.final[i] = nms_rescored(work.final[i], value, args.threshold);
      }
    }
  }
}

void suppress_image(const OksNmsArgs& args, const Lanes& lanes, const Work& work, const int64_t* order, int64_t n) {
  if (lanes.usable && n > 2) {
    const int64_t size = oks_columns_size(n, args.keypoints);
    const Workspace memory(4 * size + 4 * (oks_pitch(n) / Vec::lanes));
    float* floats = static_cast<float*>(memory.data());
    const OksColumns columns = oks_columns_in(floats, n, args.keypoints);
    const bool fits = put_columns(args, columns, order, n);
    if (fits && args.soft) soft_lanes(args, lanes, work, columns, order, n);
    else if (fits) hard_lanes(args, lanes, work, columns, reinterpret_cast<uint32_t*>(floats + size), order, n);
    if (fits) return;
  }
  if (args.dtype == DType::Float64) {
    if (args.soft) soft_exact<double>(args, work, order, n);
    else hard_exact<double>(args, work, order, n);
  } else {
    if (args.soft) soft_exact<float>(args, work, order, n);
    else hard_exact<float>(args, work, order, n);
  }
}

void arrange_lanes(const OksNmsArgs& args, Lanes& lanes) {
  const int64_t count = args.keypoints;
  lanes.usable = args.dtype == DType::Float32 && count > 0;
  for (int64_t k = 0; k < count; ++k) {
    lanes.usable = lanes.usable && oks_sigma_fits_lanes(args.sigmas[k]);
    int64_t j = k;
    for (; j > 0 && args.sigmas[k] < args.sigmas[lanes.sequence[j - 1]]; --j) lanes.sequence[j] = lanes.sequence[j - 1];
    lanes.sequence[j] = k;
  }
  // Error of a float sum: about 1e-6 a term, and the roundings of adding up.
  const double n = static_cast<double>(count);
  const double error = n * 2e-6 + n * n * 6e-8;
  for (int64_t k = 0; k < count; ++k) {
    lanes.inverse_spread[k] = static_cast<float>(oks_inverse_spread(args.sigmas[lanes.sequence[k]]));
    lanes.needed[k] = static_cast<float>(args.threshold * n - error - (n - 1.0 - static_cast<double>(k)));
  }
  lanes.certainly = static_cast<float>(args.threshold * n + error);
  lanes.possibly = static_cast<float>(args.threshold * n - error);
}

}  // namespace

void oks_nms_cpu(const OksNmsArgs& args) {
  const int64_t n = args.poses_n, keypoints = args.keypoints;
  *args.count = 0;
  if (n == 0) return;
  const int64_t bytes = 8 * (4 * n + 1) + 8 * keypoints + 2 * 4 * keypoints + n;
  const Workspace memory(bytes);
  Work work;
  work.order = static_cast<int64_t*>(memory.data());
  work.spare = work.order + n;
  work.starts = work.spare + n;
  work.final = reinterpret_cast<double*>(work.starts + n + 1);
  Lanes lanes;
  lanes.sequence = reinterpret_cast<int64_t*>(work.final + n);
  lanes.inverse_spread = reinterpret_cast<float*>(lanes.sequence + keypoints);
  lanes.needed = lanes.inverse_spread + keypoints;
  work.kept = reinterpret_cast<uint8_t*>(lanes.needed + keypoints);
  arrange_lanes(args, lanes);

  for (int64_t i = 0; i < n; ++i) {
    work.order[i] = i;
    work.final[i] = nms_score(args.scores[i]);
    work.kept[i] = 0;
  }
  const double* final = work.final;
  const int64_t* image = args.image_index;
  const auto better = [final](int64_t i, int64_t j) { return nms_before(final[i], i, final[j], j); };
  work.images = 0;
  if (image == nullptr) {
    sort_items(work.order, work.spare, n, better);
    work.starts[work.images++] = 0;
  } else {
    sort_items(work.order, work.spare, n,
               [=](int64_t i, int64_t j) { return image[i] != image[j] ? image[i] < image[j] : better(i, j); });
    for (int64_t p = 0; p < n; ++p)
      if (p == 0 || image[work.order[p]] != image[work.order[p - 1]]) work.starts[work.images++] = p;
  }
  work.starts[work.images] = n;

  parallel_for(work.images, 4, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s)
      suppress_image(args, lanes, work, work.order + work.starts[s], work.starts[s + 1] - work.starts[s]);
  });

  int64_t count = 0;
  for (int64_t p = 0; p < n; ++p)
    if (work.kept[work.order[p]]) args.indices[count++] = work.order[p];
  if (work.images > 1 || args.soft) sort_items(args.indices, work.spare, count, better);
  for (int64_t i = 0; i < n; ++i) {
    args.rescored[i] = i < count ? work.final[args.indices[i]] : 0.0;
    if (i >= count) args.indices[i] = -1;
  }
  *args.count = count;
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(oks_nms_cpu, OksNmsArgs)

}  // namespace fastpose
