#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "oks/oks.h"
#include "oks/oks_lanes.h"
#include "oks/oks_wide.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

// Rows [begin, end) of float32 poses in double, pair by pair.
void oks_rows(const OksArgs& args, int64_t begin, int64_t end) {
  const int64_t size_a = args.keypoints * args.channels_a, size_b = args.keypoints * args.channels_b;
  for (int64_t n = begin; n < end; ++n) {
    const uint8_t* visible = args.visible == nullptr ? nullptr : args.visible + n * args.keypoints;
    float* out = static_cast<float*>(args.out) + n * args.poses_m;
    for (int64_t m = 0; m < args.poses_m; ++m) {
      const double area = args.areas_b == nullptr ? args.areas_a[n] : oks_area_of_pair(args.areas_a[n], args.areas_b[m]);
      out[m] = static_cast<float>(oks_of_pair(static_cast<const float*>(args.poses_a) + n * size_a,
                                              static_cast<const float*>(args.poses_b) + m * size_b, args.keypoints,
                                              args.channels_a, args.channels_b, args.sigmas, visible, area));
    }
  }
}

// One row of float64 poses; `b` are the columns of all poses of b.
void oks_row_wide(const OksArgs& args, const WideColumns& b, int64_t n) {
  const double* a = static_cast<const double*>(args.poses_a) + n * args.keypoints * args.channels_a;
  const uint8_t* visible = args.visible == nullptr ? nullptr : args.visible + n * args.keypoints;
  double* out = static_cast<double*>(args.out) + n * args.poses_m;
  int64_t counted = 0;
  for (int64_t k = 0; k < args.keypoints; ++k) counted += visible == nullptr || visible[k] != 0;
  const Wide divisor = wide(static_cast<double>(max_of<int64_t>(counted, 1)));
  const Wide area_a = wide(oks_area(args.areas_a[n]));
  for (int64_t m = 0; m < args.poses_m; m += kWide) {
    const Wide area = args.areas_b == nullptr ? area_a : wide(0.5) * (area_a + load_wide(b.area + m));
    const Wide inverse_area = wide(1.0) / (area + wide(kOksSmallestArea));
    Wide sum = wide(0.0);
    for (int64_t k = 0; k < args.keypoints; ++k) {
      if (visible != nullptr && visible[k] == 0) continue;
      const Wide dx = wide(a[k * args.channels_a]) - load_wide(b.x + k * b.pitch + m);
      const Wide dy = wide(a[k * args.channels_a + 1]) - load_wide(b.y + k * b.pitch + m);
      sum += exp_of_negative((dx * dx + dy * dy) * wide(oks_inverse_spread(args.sigmas[k])) * inverse_area);
    }
    const Wide oks = sum / divisor;
    memcpy(out + m, &oks, bytes_of<double>(min_of<int64_t>(kWide, args.poses_m - m)));
  }
}

// One row in float; `b` are the columns of all poses of b.
void oks_row_lanes(const OksArgs& args, const OksColumns& b, int64_t n) {
  const float* a = static_cast<const float*>(args.poses_a) + n * args.keypoints * args.channels_a;
  const uint8_t* visible = args.visible == nullptr ? nullptr : args.visible + n * args.keypoints;
  float* out = static_cast<float*>(args.out) + n * args.poses_m;
  const Vec area_a = set(static_cast<float>(oks_area(args.areas_a[n])));
  int64_t counted = 0;
  for (int64_t k = 0; k < args.keypoints; ++k) counted += visible == nullptr || visible[k] != 0;
  const Vec divisor = set(static_cast<float>(max_of<int64_t>(counted, 1)));
  for (int64_t m = 0; m < args.poses_m; m += Vec::lanes) {
    const Vec area = args.areas_b == nullptr ? area_a : (area_a + load(b.area + m)) * set(0.5f);
    const Vec inverse_area = oks_inverse_area(area);
    Vec sum = zero();
    for (int64_t k = 0; k < args.keypoints; ++k) {
      if (visible != nullptr && visible[k] == 0) continue;
      const Vec dx = load(b.x + k * b.pitch + m) - set(a[k * args.channels_a]);
      const Vec dy = load(b.y + k * b.pitch + m) - set(a[k * args.channels_a + 1]);
      sum += oks_agreement(dx, dy, set(static_cast<float>(oks_inverse_spread(args.sigmas[k]))), inverse_area);
    }
    const int64_t left = args.poses_m - m;
    const Vec oks = sum / divisor;
    if (left >= Vec::lanes) store(out + m, oks);
    else store_n(out + m, oks, static_cast<int>(left));
  }
}

bool row_fits(const OksArgs& args, int64_t n) {
  const float* a = static_cast<const float*>(args.poses_a) + n * args.keypoints * args.channels_a;
  bool fits = oks_area_fits_lanes(args.areas_a[n]);
  for (int64_t k = 0; k < args.keypoints; ++k)
    fits = fits && oks_fits_lanes(a[k * args.channels_a]) && oks_fits_lanes(a[k * args.channels_a + 1]);
  return fits;
}

}  // namespace

void oks_cpu(const OksArgs& args) {
  if (args.poses_n == 0 || args.poses_m == 0) return;
  const int64_t work = args.poses_m * (args.keypoints + 1);
  const int64_t grain = work > 4096 ? 1 : 4096 / work;
  if (args.dtype == DType::Float64) {
    const Workspace memory(8 * WideColumns::doubles(args.poses_m, args.keypoints));
    const double* poses_b = static_cast<const double*>(args.poses_b);
    const WideColumns b(static_cast<double*>(memory.data()), poses_b, args.poses_m, args.keypoints, args.channels_b, args.areas_b);
    parallel_for(args.poses_n, grain, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) oks_row_wide(args, b, n);
    });
    return;
  }
  bool fits = true;
  for (int64_t k = 0; k < args.keypoints; ++k) fits = fits && oks_sigma_fits_lanes(args.sigmas[k]);
  if (fits) {
    const Workspace memory(4 * oks_columns_size(args.poses_m, args.keypoints));
    const OksColumns b = oks_columns_in(static_cast<float*>(memory.data()), args.poses_m, args.keypoints);
    for (int64_t m = 0; m < args.poses_m; ++m)
      fits &= oks_put(b, m, static_cast<const float*>(args.poses_b) + m * args.keypoints * args.channels_b, args.keypoints,
                      args.channels_b, args.areas_b == nullptr ? 0.0 : args.areas_b[m]);
    oks_clear_rest(b, args.poses_m, args.keypoints);
    if (fits) {
      parallel_for(args.poses_n, grain, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          if (row_fits(args, n)) oks_row_lanes(args, b, n);
          else oks_rows(args, n, n + 1);
        }
      });
      return;
    }
  }
  // What float cannot hold goes through double.
  parallel_for(args.poses_n, grain, [&](int64_t begin, int64_t end) { oks_rows(args, begin, end); });
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(oks_cpu, OksArgs)

}  // namespace fastpose
