// What the fuzz targets share: arguments out of a byte string, memory in which a wrong access shows, and repeated runs that must agree.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "core/tensor_view.h"

namespace fuzz {

// Prints the message and how to repeat the input, and aborts.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

#define FUZZ_CHECK(condition, ...) \
  do {                             \
    if (!(condition)) fuzz::fail(__VA_ARGS__); \
  } while (0)

// A generator for the contents of arrays, of which a byte string could not hold enough (splitmix64).
struct Random {
  uint64_t state;
  uint64_t next();
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }
};

// Reads a byte string from the front; beyond its end stand zeros.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  uint8_t byte() { return at_ < size_ ? data_[at_++] : uint8_t{0}; }
  uint64_t word(int bytes);
  bool flag() { return (byte() & 1) != 0; }
  int64_t between(int64_t low, int64_t high);  // both included
  template <class T>
  T pick(std::initializer_list<T> values) { return values.begin()[byte() % values.size()]; }
  Random random() { return Random{word(3) * 0x9e3779b97f4a7c15ull}; }

 private:
  const uint8_t* data_;
  size_t size_, at_ = 0;
};

// Numbers of an array: mostly ordinary ones from low to high, now and then one that is not.
struct Numbers {
  Random random;
  double low, high;
  int odd_every;      // 0: all ordinary; n: about one in n is odd
  bool finite;        // odd ones are huge, tiny or on a limit, but not NaN or infinite
  double next();
};
Numbers numbers(Bytes& in, double low, double high, bool finite = false);

// Memory of exactly `count` elements, which ends at, or begins at, a page that must not be touched, or lies in the heap, where AddressSanitizer
// watches. Gathers and masked accesses are seen by the former only. What is left of the pages, or bands in the heap, holds a known byte.
class Memory {
 public:
  Memory(size_t bytes, int place);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  void check_bands(const char* what) const;

 private:
  uint8_t* block_;  // what was allocated
  size_t block_bytes_;
  uint8_t *inner_, *data_;  // without the forbidden pages; the elements
  size_t inner_bytes_, bytes_;
  bool mapped_;
};

template <class T>
class Array {
 public:
  Array() = default;
  Array(Bytes& in, int64_t count) : memory_(std::make_unique<Memory>(sizeof(T) * static_cast<size_t>(count), in.byte() % 4)), count_(count) {}
  T* data() const { return memory_ ? static_cast<T*>(memory_->data()) : nullptr; }
  int64_t size() const { return count_; }
  T& operator[](int64_t i) const { return data()[i]; }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  std::unique_ptr<Memory> memory_;
  int64_t count_ = 0;
};

double value_of(const void* array, fastpose::DType dtype, int64_t i);

// Elements of any dtype.
struct AnyArray {
  std::unique_ptr<Memory> memory;
  fastpose::DType dtype = fastpose::DType::Float32;
  int64_t count = 0;

  AnyArray() = default;
  AnyArray(Bytes& in, fastpose::DType type, int64_t n);
  void* data() const { return memory ? memory->data() : nullptr; }
  void put(int64_t i, double value);
  void fill(Numbers numbers);
};

template <class T>
void fill(const Array<T>& array, Numbers numbers) {
  for (int64_t i = 0; i < array.size(); ++i) array[i] = static_cast<T>(numbers.next());
}

// What the op writes.
struct Output {
  fastpose::DType dtype;
  int64_t count;
  size_t bytes() const { return static_cast<size_t>(count) * static_cast<size_t>(fastpose::dtype_size(dtype)); }
};

// Calls run(outputs) at every SIMD level with one thread and with two, sometimes from two threads at once; outputs hold other rubbish each time.
// All bits must be the same for any number of threads, and all values at every level if `same_levels`. `check` looks at the outputs once a level.
struct Trial {
  bool same_levels;
  std::vector<Output> outputs;
  std::function<void(void* const* outputs)> run;
  std::function<void(void* const* outputs)> check;
};
void run_trial(Bytes& in, const Trial& trial);

// What oks_nms and box_nms give: the places in use hold different members, the best first, the others none.
void check_places(const int64_t* indices, const double* rescored, int64_t count, int64_t n);

// One target an op.
void affine_crop(Bytes& in);
void affine_crop_backward(Bytes& in);
void assign(Bytes& in);
void box_nms(Bytes& in);
void heatmap_encode(Bytes& in);
void heatmap_decode(Bytes& in);
void heatmap_loss(Bytes& in);
void oks(Bytes& in);
void oks_nms(Bytes& in);
void simcc_decode(Bytes& in);
void simcc_encode(Bytes& in);
void simcc_loss(Bytes& in);
void batch_norm_act(Bytes& in);
void depthwise_conv(Bytes& in);
void interleave(Bytes& in);

}  // namespace fuzz
