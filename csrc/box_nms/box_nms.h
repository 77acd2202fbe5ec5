// Suppression of boxes that show the same thing, for the boxes of many images and classes at once.
#pragma once

#include <cstdint>

#include "core/tensor_view.h"

namespace fastpose {

// What becomes of a box beside a better one: it goes, or its score is lowered, by how much they overlap or by a Gaussian of that.
enum class BoxNmsMethod : int64_t { Hard, Linear, Gaussian };

struct BoxNmsArgs {
  const void* boxes;           // [N, 4] x1, y1, x2, y2
  const double* scores;        // [N]
  const int64_t* classes;      // [N], or null: all of one class
  const int64_t* image_index;  // [N], or null: all of one image
  int64_t boxes_n;
  DType dtype;                 // of boxes, in which overlaps are computed: Float32 or Float64
  double threshold;            // of the overlap: hard and linear
  BoxNmsMethod method;
  double sigma;                // Gaussian only
  double min_score;            // what is, or has sunk, below goes
  int64_t most;                // boxes of an image, all classes together
  int64_t* indices;            // [N]: indices[i] = j means that box j is the i-th best of the kept; -1 after the last
  double* rescored;            // [N]: score of box indices[i]; 0 after the last
  int64_t* count;              // [1]: how many are kept
  void* workspace;             // CUDA only: box_nms_workspace(N) bytes
};

// The CUDA kernels sort by comparing every box with every other one.
constexpr int64_t kBoxNmsCudaLimit = 131072;
constexpr int64_t box_nms_workspace(int64_t boxes_n) { return 18 * boxes_n; }

void box_nms_cpu(const BoxNmsArgs& args);
void box_nms_cuda(const BoxNmsArgs& args, void* stream);

}  // namespace fastpose
