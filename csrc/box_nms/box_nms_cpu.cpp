#include "box_nms/box_nms_math.h"
#include "core/dispatch.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "nms/nms_sort.h"

namespace fastpose {
namespace FASTPOSE_SIMD_NS {
namespace {

struct Item {
  int64_t image;  // as the caller numbers them; once sorted, counted from 0
  int64_t kind;   // class
  double score;   // as it ends
  int64_t index;  // of the box
};

FASTPOSE_INLINE bool same_group(const Item& a, const Item& b) { return a.image == b.image && a.kind == b.kind; }

// The boxes turned on their side, in the order of the items: coordinate c of the box at position p stands at corner[c][p]. A vector may be
// loaded from any position.
template <class T>
struct Columns {
  T* corner[4];
  T* area;
};

constexpr int kLanes = Vec::lanes;

struct Work {
  Item* items;       // [N] by image and class, then best first
  Item* spare;       // [N]
  int64_t* starts;   // [groups + 1]: positions at which an image's class begins
  int64_t* taken;    // [images]
  uint32_t* open;    // [N]: bit q % lanes of word q / lanes, from where the group begins, says that its box q may still be kept
  uint8_t* kept;     // [N] by position
  int64_t n, groups, images;
};

// --- overlaps of the box at position p with `lanes` others, from position m; which are above the limit (bits) -------------------------
FASTPOSE_INLINE uint32_t overlaps(const Columns<float>& columns, int64_t p, int64_t m, float limit, float* result) {
  const auto side = [&](int low, int high) {
    const Vec end = min(set(columns.corner[high][p]), load(columns.corner[high] + m));
    const Vec begin = max(set(columns.corner[low][p]), load(columns.corner[low] + m));
    return max(end - begin, zero());
  };
  const Vec shared = side(0, 2) * side(1, 3);
  const Vec overlap = shared / (set(columns.area[p]) + load(columns.area + m) - shared);
  store(result, overlap);
  return bits(overlap > set(limit));
}

FASTPOSE_INLINE uint32_t overlaps(const Columns<double>& columns, int64_t p, int64_t m, double limit, double* result) {
  uint32_t above = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    double a[4], b[4];
    for (int c = 0; c < 4; ++c) a[c] = columns.corner[c][p], b[c] = columns.corner[c][m + lane];
    result[lane] = box_overlap(a, b, columns.area[p], columns.area[m + lane]);
    above |= (result[lane] > limit ? 1u : 0u) << lane;
  }
  return above;
}

// --- one class of one image ---------------------------------------------------------------------------------------------------------
template <class T>
void hard(const BoxNmsArgs& args, const Work& work, const Columns<T>& columns, T limit, int64_t start, int64_t n) {
  uint32_t* const open = work.open + start;
  T ignored[kLanes];
  int64_t left = args.most;
  for (int64_t p = 0; p < n && left > 0; ++p) {
    const int64_t own = p / kLanes;
    if (((open[own] >> (p % kLanes)) & 1u) == 0) continue;
    work.kept[start + p] = 1;
    --left;
    uint32_t wanted = open[own] & ~((2u << (p % kLanes)) - 1u);  // those behind p
    for (int64_t w = own; w * kLanes < n; ++w) {
      if (w > own) wanted = open[w];
      if (wanted != 0) open[w] &= ~(wanted & overlaps(columns, start + p, start + w * kLanes, limit, ignored));
    }
  }
}

// Position, from the group's start, of the best box that is open, or -1.
int64_t best_open(const Work& work, int64_t start, int64_t n) {
  const Item* const items = work.items + start;
  int64_t best = -1;
  for (int64_t w = 0; w * kLanes < n; ++w) {
    for (uint32_t open = work.open[start + w]; open != 0; open &= open - 1) {
      const int64_t p = w * kLanes + __builtin_ctz(open);
      if (best < 0 || nms_before(items[p].score, items[p].index, items[best].score, items[best].index)) best = p;
    }
  }
  return best;
}

template <class T>
void soft(const BoxNmsArgs& args, const Work& work, const Columns<T>& columns, T limit, int64_t start, int64_t n) {
  T overlap[kLanes];
  for (int64_t round = 0; round < args.most; ++round) {
    const int64_t best = best_open(work, start, n);
    if (best < 0) return;
    work.kept[start + best] = 1;
    work.open[start + best / kLanes] &= ~(1u << (best % kLanes));
    for (int64_t w = 0; w * kLanes < n; ++w) {
      uint32_t& open = work.open[start + w];
      if (open == 0) continue;
      for (uint32_t near = open & overlaps(columns, start + best, start + w * kLanes, limit, overlap); near != 0; near &= near - 1) {
        const int lane = __builtin_ctz(near);
        double& score = work.items[start + w * kLanes + lane].score;
        score = box_nms_rescored(score, static_cast<double>(overlap[lane]), args.method, args.sigma);
        if (score < args.min_score) open &= ~(1u << lane);
      }
    }
  }
}

template <class T>
void suppress(const BoxNmsArgs& args, const Work& work, const Columns<T>& columns, int64_t group) {
  const int64_t start = work.starts[group], n = work.starts[group + 1] - start;
  for (int64_t p = 0; p < n; ++p) {
    uint32_t& open = work.open[start + p / kLanes];
    if (p % kLanes == 0) open = 0;
    open |= (work.items[start + p].score < args.min_score ? 0u : 1u) << (p % kLanes);
  }
  const T limit = box_nms_limit<T>(args.method, args.threshold);
  if (args.method == BoxNmsMethod::Hard) hard(args, work, columns, limit, start, n);
  else soft(args, work, columns, limit, start, n);
}

template <class T>
void suppress_all(const BoxNmsArgs& args, const Work& work) {
  const int64_t pitch = work.n + kLanes;
  const Workspace memory(5 * pitch * static_cast<int64_t>(sizeof(T)));
  Columns<T> columns;
  for (int c = 0; c < 4; ++c) columns.corner[c] = static_cast<T*>(memory.data()) + c * pitch;
  columns.area = columns.corner[3] + pitch;
  for (int64_t p = 0; p < pitch; ++p) {
    const T* const box = p < work.n ? static_cast<const T*>(args.boxes) + 4 * work.items[p].index : nullptr;
    for (int c = 0; c < 4; ++c) columns.corner[c][p] = box == nullptr ? T(0) : box[c];
    columns.area[p] = box == nullptr ? T(0) : box_area(box[0], box[1], box[2], box[3]);
  }
  parallel_for(work.groups, 4, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) suppress(args, work, columns, g);
  });
}

// --- all ----------------------------------------------------------------------------------------------------------------------------
void sort_into_groups(const BoxNmsArgs& args, Work& work) {
  for (int64_t i = 0; i < work.n; ++i) {
    work.items[i] = {args.image_index == nullptr ? 0 : args.image_index[i], args.classes == nullptr ? 0 : args.classes[i],
                     nms_score(args.scores[i]), i};
    work.kept[i] = 0;
  }
  sort_items(work.items, work.spare, work.n, [](const Item& a, const Item& b) {
    if (a.image != b.image) return a.image < b.image;
    return a.kind != b.kind ? a.kind < b.kind : nms_before(a.score, a.index, b.score, b.index);
  });
  work.groups = work.images = 0;
  Item last{};
  for (int64_t p = 0; p < work.n; ++p) {
    Item& item = work.items[p];
    if (p == 0 || !same_group(item, last)) work.starts[work.groups++] = p;
    if (p == 0 || item.image != last.image) work.taken[work.images++] = 0;
    last = item;
    item.image = work.images - 1;
  }
  work.starts[work.groups] = work.n;
}

// The kept ones of all groups, best first, as many of an image as may be.
void collect(const BoxNmsArgs& args, const Work& work) {
  int64_t kept = 0, count = 0;
  for (int64_t p = 0; p < work.n; ++p)
    if (work.kept[p]) work.items[kept++] = work.items[p];
  sort_items(work.items, work.spare, kept, [](const Item& a, const Item& b) { return nms_before(a.score, a.index, b.score, b.index); });
  for (int64_t k = 0; k < kept; ++k) {
    const Item& item = work.items[k];
    if (work.taken[item.image]++ >= args.most) continue;
    args.indices[count] = item.index;
    args.rescored[count++] = item.score;
  }
  for (int64_t i = count; i < work.n; ++i) args.indices[i] = -1, args.rescored[i] = 0.0;
  *args.count = count;
}

}  // namespace

void box_nms_cpu(const BoxNmsArgs& args) {
  const int64_t n = args.boxes_n;
  *args.count = 0;
  if (n == 0) return;
  const Workspace memory(n * static_cast<int64_t>(2 * sizeof(Item) + 2 * sizeof(int64_t) + sizeof(uint32_t) + sizeof(uint8_t)) + 8);
  Work work{};
  work.n = n;
  work.items = static_cast<Item*>(memory.data());
  work.spare = work.items + n;
  work.starts = reinterpret_cast<int64_t*>(work.spare + n);
  work.taken = work.starts + n + 1;
  work.open = reinterpret_cast<uint32_t*>(work.taken + n);
  work.kept = reinterpret_cast<uint8_t*>(work.open + n);
  sort_into_groups(args, work);
  if (args.dtype == DType::Float64) suppress_all<double>(args, work);
  else suppress_all<float>(args, work);
  collect(args, work);
}

}  // namespace FASTPOSE_SIMD_NS

FASTPOSE_DISPATCH(box_nms_cpu, BoxNmsArgs)

}  // namespace fastpose
