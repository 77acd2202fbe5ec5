// One table of arguments an op, and the one driver that reads them.
//
// An op is called in two ways. `try_OP` is the usual call, straight from fastpose/ops/OP.py: plain NumPy arrays or plain CPU tensors,
// contiguous and of a dtype that the kernels take; for anything else it gives None and has done nothing. `OP` takes what Python has then
// prepared, on any device, and says what is wrong with it. Both read the same table and make the same checks, so that no call can reach
// foreign memory.
#pragma once

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "bindings/view.h"

namespace fastpose {

// --- the table --------------------------------------------------------------------------------------------------------------------
constexpr uint16_t dtype_bit(DType dtype) { return static_cast<uint16_t>(1u << static_cast<unsigned>(dtype)); }
constexpr uint16_t U8 = dtype_bit(DType::UInt8), F16 = dtype_bit(DType::Float16), BF16 = dtype_bit(DType::BFloat16);
constexpr uint16_t F32 = dtype_bit(DType::Float32), F64 = dtype_bit(DType::Float64), I64 = dtype_bit(DType::Int64);
constexpr uint16_t BOOL = dtype_bit(DType::Bool);
constexpr uint16_t SAME = 1u << 15;  // as the first array

// "B 3 K": a letter is the size that the first array with it has, or that the op said; all others must agree. "2C" is twice C, "EK" E times
// K, where the op has said what E is. Empty: a scalar.
struct Shape {
  struct Dim {
    char factor, letter;  // a letter, or a number below 'A'; no letter: the factor itself
  };
  Dim dim[kMaxDims] = {};
  int ndim = 0;

  constexpr Shape(const char* text) {  // NOLINT: a table reads better with the text alone
    while (*text != '\0') {
      Dim d{1, '\0'};
      if (*text >= '0' && *text <= '9') d.factor = static_cast<char>(*text++ - '0');
      else if (text[1] >= 'A') d.factor = *text++;
      if (*text >= 'A') d.letter = *text++;
      dim[ndim++] = d;
      if (*text == ' ') ++text;
    }
  }
};

enum class Takes : uint8_t { Array, Small, Output, Number, Whole, Flag, Other };

// What else is true of an argument.
constexpr uint8_t OPTIONAL = 1;       // may be None; of an output: None means not wanted
constexpr uint8_t CHANNELS_LAST = 2;  // [B, C, h, w] with the channels side by side in memory, instead of row-major
constexpr uint8_t ANY_STRIDES = 4;    // the op looks at them
constexpr uint8_t ANY_DEVICE = 8;     // the op looks at it
constexpr uint8_t IGNORE_GRAD = 16;   // the caller sees to its gradient
constexpr uint8_t IN_PLACE = 32;      // of an output: may be the first array itself
constexpr uint8_t ANY_SHAPE = 64;     // the op looks at it

struct Rule {
  const char* name;
  Takes takes;
  uint16_t dtypes = 0;
  Shape shape = "";
  uint8_t flags = 0;

  constexpr bool has(uint8_t any) const { return (flags & any) != 0; }
  constexpr bool is_input() const { return takes == Takes::Array || takes == Takes::Small; }
};

constexpr Rule array(const char* name, uint16_t dtypes, Shape shape, uint8_t flags = 0) {
  return {name, Takes::Array, dtypes, shape, flags};
}
// A small array beside the others, which NumPy may hold where they are tensors, or a tuple or list of floats or ints. Float32 becomes
// float64.
constexpr Rule small(const char* name, uint16_t dtypes, Shape shape, uint8_t flags = 0) {
  return {name, Takes::Small, dtypes, shape, flags};
}
// What is written. Made if the caller gives None, unless it is OPTIONAL.
constexpr Rule output(const char* name, uint16_t dtypes, Shape shape, uint8_t flags = 0) {
  return {name, Takes::Output, dtypes, shape, flags};
}
constexpr Rule number(const char* name) { return {name, Takes::Number}; }
constexpr Rule whole(const char* name, uint8_t flags = 0) { return {name, Takes::Whole, 0, "", flags}; }
constexpr Rule flag(const char* name) { return {name, Takes::Flag}; }
constexpr Rule other(const char* name) { return {name, Takes::Other}; }  // the op reads it itself

template <size_t N>
using Objects = std::array<py::handle, N>;

// What an argument came to.
struct Slot {
  Arg array;
  DType given;  // before it was made float64
  double number;
  int64_t whole;
  py::object result;
};

// --- the driver -------------------------------------------------------------------------------------------------------------------
enum class Way { Try, Prepared };

class Call {
 public:
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Before the inputs: what a letter of the shapes stands for.
  void say(char letter, int64_t size) { size_[letter - 'A'] = size; }
  int64_t size(char letter) const { return size_[letter - 'A']; }
  // The first array's graph is of no interest.
  void ignore_grad() { ignore_grad_ = true; }

  // Each reads and checks; false if the call is not for this way. Then nothing is to be done.
  bool inputs();
  bool outputs();
  // One array that stands in no table of its own, such as one of a list.
  void read(Arg& a, py::handle object, const Rule& rule);

  const Arg& operator[](size_t i) const { return slots_[i].array; }
  const py::object& result(size_t i) const { return slots_[i].result; }
  double number(size_t i) const { return slots_[i].number; }
  int64_t whole(size_t i) const { return slots_[i].whole; }
  bool flag(size_t i) const { return slots_[i].whole != 0; }
  bool refused() const { return refused_; }

  Way way() const { return way_; }
  int32_t device() const { return device_; }
  DType given_dtype(size_t i) const { return slots_[i].given; }
  // ValueError if memory that is written belongs to something else, too.
  void expect_own_memory(const Arg& written, const Arg& other) const;

  // A fresh array of the call's framework and device.
  py::object empty(const int64_t* shape, int ndim, DType dtype) const;
  // Working memory on the call's device, as long as the call lives.
  void* workspace(int64_t bytes);
  // n elements of working memory as an array of the caller's framework; float64 also as float32.
  py::object copy(const void* from, DType from_dtype, int64_t n, DType dtype) const;

 protected:
  Call(Way way, const Rule* rules, const py::handle* objects, Slot* slots, size_t n);

 private:
  template <class Fail>
  bool refuse(Fail fail);
  void begin_with(py::handle object, const Arg& a, Framework framework);
  void small(Arg& a, py::handle object, const Rule& rule);
  template <class T, class Read>
  void sequence(Arg& a, py::handle object, DType dtype, Read read);
  void widen(Arg& a);
  bool scalar(size_t i);
  bool take_output(size_t i);
  void make_output(size_t i);
  bool check(const Arg& a, const Rule& rule);
  bool fits(const Arg& a, const Shape& shape);
  int64_t times(const Shape::Dim& dim) const { return dim.factor >= 'A' ? size(dim.factor) : dim.factor; }
  std::string legend(const Shape& shape) const;

  Way way_;
  const Rule* rules_;
  const py::handle* objects_;
  Slot* slots_;
  size_t n_;
  bool refused_ = false, ignore_grad_ = false;
  Framework framework_ = Framework::None;
  py::handle like_;  // the first array, which decides whose the call is: all others, and the outputs, are of the same framework
  const char* like_name_ = "";
  DType like_dtype_ = DType::Float32;
  int32_t device_ = kCpu;
  int64_t size_[26];
  static constexpr int64_t kRoom = 8192;
  alignas(64) char room_[kRoom];
  int64_t taken_ = 0;
  std::vector<std::unique_ptr<char[]>> more_;  // what does not fit
  std::vector<py::object> held_;
};

template <size_t N>
struct Slots {
  Slot slots[N];
};

template <size_t N>
class CallOf : private Slots<N>, public Call {
 public:
  CallOf(Way way, const Rule (&rules)[N], const Objects<N>& objects) : Call(way, rules, objects.data(), this->slots, N) {}
};

// [B, C, h, w] with the channels side by side and the pixels one after another.
bool is_channels_last(const TensorView& a);

// What was given must be from 0 to count - 1, or finite. Not looked at on CUDA, where the kernel takes the nearest index.
void expect_indices(const Arg& indices, int64_t count);
void expect_finite(const Arg& numbers);

[[noreturn]] void fail_without_cuda(const char* op);

// --- binding ----------------------------------------------------------------------------------------------------------------------
template <size_t>
using Handle = py::handle;

template <size_t N, size_t... I>
void bind(py::module_& m, const char* name, py::object (*op)(Way, const Objects<N>&), Way way, std::index_sequence<I...>) {
  m.def(name, [op, way](Handle<I>... objects) { return op(way, Objects<N>{objects...}); });
}

template <size_t N>
void bind_prepared(py::module_& m, const char* name, py::object (*op)(Way, const Objects<N>&)) {
  bind(m, name, op, Way::Prepared, std::make_index_sequence<N>());
}

template <size_t N>
void bind_op(py::module_& m, const char* name, py::object (*op)(Way, const Objects<N>&)) {
  bind_prepared(m, name, op);
  bind(m, (std::string("try_") + name).c_str(), op, Way::Try, std::make_index_sequence<N>());
}

}  // namespace fastpose

// Runs the launcher of an op where its arrays lie; on CUDA on torch's current stream. The arguments struct must be complete.
#if FASTPOSE_WITH_CUDA
#include "core/cuda_device.h"
#define FASTPOSE_LAUNCH(OP, args, call)                        \
  do {                                                         \
    const int32_t where = (call).device();                     \
    void* const stream = where == ::fastpose::kCpu ? nullptr : ::fastpose::current_stream(where); \
    ::fastpose::Computing computing;                           \
    if (where == ::fastpose::kCpu) {                           \
      ::fastpose::OP##_cpu(args);                              \
    } else {                                                   \
      ::fastpose::CudaDevice device(where);                    \
      ::fastpose::OP##_cuda(args, stream);                     \
    }                                                          \
  } while (false)
#else
#define FASTPOSE_LAUNCH(OP, args, call)                                               \
  do {                                                                                \
    if ((call).device() != ::fastpose::kCpu) ::fastpose::fail_without_cuda(#OP);      \
    ::fastpose::Computing computing;                                                  \
    ::fastpose::OP##_cpu(args);                                                       \
  } while (false)
#endif
