// Every CUDA kernel of the native core, run on the CPU under random arguments and compared with the CPU op: main.cpp draws the arguments,
// a file a family of ops, grid.h runs the grids. test_cuda_on_cpu.py builds and runs it under sanitizers; by hand:
//     cmake -S tests/cuda_on_cpu -B build/cuda_on_cpu && cmake --build build/cuda_on_cpu --target cuda_on_cpu_asan
//     build/cuda_on_cpu/cuda_on_cpu_asan --seconds 600 [--seed 1] [--op heatmap_loss] [--first 17]
#pragma once

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "core/host_device.h"
#include "core/tensor_view.h"
#include "grid.h"

namespace checks {

using cuda_on_cpu::fail;
using fastpose::DType;

// splitmix64
struct Random {
  uint64_t state;
  uint64_t turn;  // of the case: so that a few dozen cases go through all types and codecs, what chance would not
  uint64_t next();
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  double between(double low, double high) { return low + (high - low) * unit(); }
  int64_t whole(int64_t low, int64_t high) { return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1)); }  // both included
  bool one_in(int64_t n) { return whole(1, n) == 1; }
  template <class T>
  T pick(std::initializer_list<T> values) { return values.begin()[next() % values.size()]; }
  // The next one each turn, or each `every` turns.
  template <class T>
  T in_turn(std::initializer_list<T> values, uint64_t every = 1) const { return values.begin()[turn / every % values.size()]; }
};

// `count` elements that end where the allocation ends, for AddressSanitizer; they begin on 16 bytes, or `skip` elements after.
class Array {
 public:
  Array() = default;
  Array(DType dtype, int64_t count, int64_t skip = 0);
  Array(Array&&) noexcept = default;
  Array& operator=(Array&&) noexcept = default;
  void* data() const { return memory_ ? static_cast<char*>(memory_.get()) + skip_ * dtype_size(dtype_) : nullptr; }
  template <class T>
  T* as() const { return static_cast<T*>(data()); }
  DType dtype() const { return dtype_; }
  int64_t count() const { return count_; }
  double get(int64_t i) const;
  void put(int64_t i, double value);
  Array rubbish(int byte) const;  // another like this one, full of that byte
  void copy_from(const Array& other);

 private:
  std::unique_ptr<void, void (*)(void*)> memory_{nullptr, std::free};
  DType dtype_ = DType::Float32;
  int64_t count_ = 0, skip_ = 0;
};

// Numbers from low to high; one in `odd_every` is NaN, infinite or huge (0: none).
void fill(Random& random, Array& array, double low, double high, int64_t odd_every = 0);

// How far an output of the kernel may be from that of the CPU op: absolute + relative * |value|. 16-bit types may besides be one step away.
struct Tolerance { double absolute, relative; };

// Runs `cpu` once and `cuda` under several plans, on outputs that hold rubbish, and compares. `outputs` are like those that the op writes.
struct Trial {
  std::vector<Array*> outputs;  // which `cpu` and `cuda` write; contents before the call count if `adds`
  std::vector<Tolerance> tolerances;
  std::function<void()> cpu;
  std::function<void(void* stream)> cuda;
  bool strides = true;  // kernels stride over their grid: also with fewer blocks than asked for
  bool adds = false;    // to what the outputs hold, in any order: rounding depends on the plan
};
void run(Random& random, const Trial& trial);

// One random case an op.
void affine_crop(Random& random);
void affine_crop_rows(Random& random);
void affine_crop_far(Random& random);
void affine_crop_backward(Random& random);
void box_nms(Random& random);
void heatmap_encode(Random& random);
void heatmap_decode(Random& random);
void heatmap_loss(Random& random);
void scale_gradient(Random& random);
void oks(Random& random);
void oks_nms(Random& random);
void simcc_decode(Random& random);
void simcc_encode(Random& random);
void simcc_loss(Random& random);

}  // namespace checks
