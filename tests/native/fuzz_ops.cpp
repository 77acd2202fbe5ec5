// Random arguments for every op's CPU entry, at every SIMD level, with one thread and two: inputs of exactly their size, forbidden pages and
// known bytes around outputs, the same bits for any number of threads. The arguments are those that the bindings let through; what the
// bindings refuse is the matter of tests/ops/test_fuzz.py.
//
//   A longer run, at every level and under both kinds of sanitizers:  FASTPOSE_FUZZ_SECONDS=600 pytest -m slow tests/native
//   Guided by coverage, with clang++:
//     cmake -S . -B build/fuzz -DFASTPOSE_NATIVE_TESTS=ON -DFASTPOSE_CUDA=off -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=None
//       -DCMAKE_CXX_FLAGS="-O1 -g" -DFASTPOSE_SANITIZE=fuzzer,address,undefined
//     cmake --build build/fuzz --target fuzz_ops && build/fuzz/tests/native/fuzz_ops -max_total_time=600 -max_len=256 FOLDER
//
//   Options: --seconds S  --iterations N (whichever ends first; default 1000 iterations)  --seed X  --first I (begin with this iteration)
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cinttypes>
#include <cmath>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <thread>

#include "core/dispatch.h"
#include "core/host_device.h"
#include "core/parallel.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#include <sanitizer/common_interface_defs.h>
#define FUZZ_SANITIZED 1
#endif

namespace fuzz {
namespace {

uint64_t current_seed = 0;
int64_t current_iteration = -1;
const char* current_op = "";

void say_how_to_repeat() {
  if (current_iteration < 0) return;
  std::fprintf(stderr, "fuzz_ops: %s; repeat with --seed %" PRIu64 " --first %" PRId64 " --iterations 1\n", current_op, current_seed,
               current_iteration);
}

constexpr uint8_t kBand = 0xA5;
constexpr size_t kHeapBand = 64;

}  // namespace

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::fprintf(stderr, "fuzz_ops: %s: ", current_op);
  std::vfprintf(stderr, format, arguments);
  std::fprintf(stderr, "\n");
  va_end(arguments);
  say_how_to_repeat();
  std::abort();
}

uint64_t Random::next() {
  uint64_t z = state += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

uint64_t Bytes::word(int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8 | byte();
  return value;
}

int64_t Bytes::between(int64_t low, int64_t high) {
  const uint64_t span = static_cast<uint64_t>(high - low) + 1;
  return low + static_cast<int64_t>(word(span <= 256 ? 1 : 4) % span);
}

Numbers numbers(Bytes& in, double low, double high, bool finite) {
  const int odd = in.pick<int>({0, 0, 1, 3, 16});
  return Numbers{in.random(), low, high, odd, finite};
}

double Numbers::next() {
  if (odd_every == 0 || random.below(odd_every) != 0) {
    const double x = low + (high - low) * random.unit();
    return random.below(3) == 0 ? std::floor(x) + 0.5 * static_cast<double>(random.below(2)) : x;  // ties are worth trying
  }
  constexpr double inf = std::numeric_limits<double>::infinity();
  constexpr double kOdd[] = {0.0, -0.0, std::numeric_limits<double>::denorm_min(), 1e-45, -1e-45, 1e-38, 1e-10, 0.5, 1.0, -1.0, 255.0, 65504.0, 65520.0, 2147483647.0,
                             -2147483648.0, 2147483648.0, 4294967296.0, 9.3e18, -9.3e18, 1e15, 1e30, -1e30, 3.4028234e38, -3.4028234e38};
  if (finite || random.below(2) == 0) {
    const double value = kOdd[random.below(static_cast<int64_t>(sizeof(kOdd) / sizeof(*kOdd)))];
    return random.below(2) == 0 ? value : value + low;
  }
  const double special[] = {inf, -inf, std::nan("")};
  return special[random.below(3)];
}

// --- memory ---------------------------------------------------------------------------------------------------------------------
Memory::Memory(size_t bytes, int place) : bytes_(bytes), mapped_(place < 2) {
  if (mapped_) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    inner_bytes_ = (bytes + page - 1) / page * page;
    block_bytes_ = inner_bytes_ + 2 * page;
    void* block = mmap(nullptr, block_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FUZZ_CHECK(block != MAP_FAILED, "no memory");
    block_ = static_cast<uint8_t*>(block);
    inner_ = block_ + page;
    FUZZ_CHECK(inner_bytes_ == 0 || mprotect(inner_, inner_bytes_, PROT_READ | PROT_WRITE) == 0, "no memory");
    data_ = place == 0 ? inner_ + inner_bytes_ - bytes : inner_;
  } else {
    // Without bands (place 3) the heap's own red zones begin at the first byte.
    const size_t band = place == 2 ? kHeapBand : 0;
    inner_bytes_ = block_bytes_ = bytes + 2 * band;
    block_ = inner_ = static_cast<uint8_t*>(std::malloc(inner_bytes_ > 0 ? inner_bytes_ : 1));
    FUZZ_CHECK(block_ != nullptr, "no memory");
    data_ = inner_ + band;
  }
  std::memset(inner_, kBand, inner_bytes_);
}

Memory::~Memory() {
  if (mapped_) munmap(block_, block_bytes_);
  else std::free(block_);
}

void Memory::check_bands(const char* what) const {
  for (const uint8_t* p = inner_; p < data_; ++p) FUZZ_CHECK(*p == kBand, "%s: written %td bytes before its beginning", what, data_ - p);
  for (const uint8_t* p = data_ + bytes_; p < inner_ + inner_bytes_; ++p)
    FUZZ_CHECK(*p == kBand, "%s: written %td bytes after its end", what, p - (data_ + bytes_));
}

AnyArray::AnyArray(Bytes& in, fastpose::DType type, int64_t n)
    : memory(std::make_unique<Memory>(static_cast<size_t>(n * fastpose::dtype_size(type)), in.byte() % 4)), dtype(type), count(n) {}

void AnyArray::put(int64_t i, double value) {
  void* p = memory->data();
  switch (dtype) {
    case fastpose::DType::UInt8: static_cast<uint8_t*>(p)[i] = static_cast<uint8_t>(static_cast<int>(fastpose::clamp(value, 0.0, 255.0))); break;
    case fastpose::DType::Float16: static_cast<uint16_t*>(p)[i] = fastpose::float16_bits(static_cast<float>(value)); break;
    case fastpose::DType::BFloat16: static_cast<uint16_t*>(p)[i] = fastpose::bfloat16_bits(static_cast<float>(value)); break;
    case fastpose::DType::Float32: static_cast<float*>(p)[i] = static_cast<float>(value); break;
    default: static_cast<double*>(p)[i] = value;
  }
}

double value_of(const void* array, fastpose::DType dtype, int64_t i) {
  switch (dtype) {
    case fastpose::DType::UInt8: return static_cast<const uint8_t*>(array)[i];
    case fastpose::DType::Float16: return static_cast<double>(fastpose::float16_value(static_cast<const uint16_t*>(array)[i]));
    case fastpose::DType::BFloat16: return static_cast<double>(fastpose::bfloat16_value(static_cast<const uint16_t*>(array)[i]));
    case fastpose::DType::Float32: return static_cast<double>(static_cast<const float*>(array)[i]);
    case fastpose::DType::Int64: return static_cast<double>(static_cast<const int64_t*>(array)[i]);
    default: return static_cast<const double*>(array)[i];
  }
}

void AnyArray::fill(Numbers numbers) {
  for (int64_t i = 0; i < count; ++i) {
    const double value = numbers.next();
    put(i, dtype == fastpose::DType::UInt8 && value != value ? 0.0 : value);
  }
}

// --- trials ---------------------------------------------------------------------------------------------------------------------
namespace {

struct Outputs {
  const std::vector<Output>& kinds;
  std::vector<std::unique_ptr<Memory>> memory;
  std::vector<void*> data;

  Outputs(const Trial& trial, int place, int rubbish) : kinds(trial.outputs) {
    for (const Output& kind : kinds) {
      memory.push_back(std::make_unique<Memory>(kind.bytes(), place));
      data.push_back(memory.back()->data());
      std::memset(data.back(), rubbish, kind.bytes());
    }
  }
  void expect_bits(const Outputs& other) const {
    for (size_t i = 0; i < data.size(); ++i)
      FUZZ_CHECK(std::memcmp(data[i], other.data[i], kinds[i].bytes()) == 0, "output %zu has other bits with two threads, or was not written", i);
  }
  void expect_values(const Outputs& other) const {
    for (size_t i = 0; i < data.size(); ++i) {
      for (int64_t j = 0; j < kinds[i].count; ++j) {
        const double a = value_of(data[i], kinds[i].dtype, j), b = value_of(other.data[i], kinds[i].dtype, j);
        FUZZ_CHECK(a == b || (a != a && b != b), "output %zu, element %" PRId64 ": %.9g at one SIMD level, %.9g at another", i, j, a, b);
      }
    }
  }
  void check_bands() const {
    for (const auto& m : memory) m->check_bands("output");
  }
};

std::vector<const char*> levels() {
#if defined(FUZZ_ONE_LEVEL)
  return {""};
#else
  std::vector<const char*> names;
  for (fastpose::SimdLevel level : fastpose::kSimdLevels)
    if (fastpose::simd_supported(level)) names.push_back(fastpose::simd_level_name(level));
  return names;
#endif
}

}  // namespace

void run_trial(Bytes& in, const Trial& trial) {
  const bool callers_at_once = in.byte() % 8 == 1;
  const int place = in.byte() % 4;
  std::unique_ptr<Outputs> other_level;
  for (const char* level : levels()) {
    FUZZ_CHECK(fastpose::set_simd_level(level) == nullptr, "level %s", level);
    Outputs alone(trial, place, 0x00), shared(trial, (place + 1) % 4, 0xff);
    const auto run = [&](const Outputs& outputs, int threads) {
      fastpose::set_num_threads(threads);
      trial.run(outputs.data.data());
    };
    if (callers_at_once) {
      std::thread other([&] { run(alone, 2); });
      run(shared, 2);
      other.join();
    } else {
      run(alone, 1);
      run(shared, 2);
    }
    alone.check_bands();
    shared.check_bands();
    alone.expect_bits(shared);
    trial.check(alone.data.data());
    if (trial.same_levels && other_level) alone.expect_values(*other_level);
    other_level = std::make_unique<Outputs>(std::move(alone));
  }
}

namespace {

struct Target {
  const char* name;
  void (*run)(Bytes& in);
  int64_t runs;
};
Target targets[] = {{"affine_crop", affine_crop, 0},       {"affine_crop_backward", affine_crop_backward, 0},
                    {"heatmap_encode", heatmap_encode, 0}, {"heatmap_decode", heatmap_decode, 0},
                    {"heatmap_loss", heatmap_loss, 0},     {"oks", oks, 0},
                    {"oks_nms", oks_nms, 0},               {"simcc_decode", simcc_decode, 0},
                    {"simcc_encode", simcc_encode, 0},     {"simcc_loss", simcc_loss, 0},
                                  {"batch_norm_act", batch_norm_act, 0},
                    {"depthwise_conv", depthwise_conv, 0}, {"interleave", interleave, 0},
                    {"box_nms", box_nms, 0},               {"assign", assign, 0}};
constexpr size_t kTargets = sizeof(targets) / sizeof(*targets);

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Bytes in(data, size);
  fuzz::Target& target = fuzz::targets[in.byte() % fuzz::kTargets];
  fuzz::current_op = target.name;
  ++target.runs;
  target.run(in);
  return 0;
}

#if !defined(FASTPOSE_LIBFUZZER)
int main(int argc, char** argv) {
  double seconds = 0;
  int64_t iterations = -1, first = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seconds") == 0) seconds = std::atof(argv[i + 1]);
    else if (std::strcmp(argv[i], "--iterations") == 0) iterations = std::atoll(argv[i + 1]);
    else if (std::strcmp(argv[i], "--seed") == 0) fuzz::current_seed = std::strtoull(argv[i + 1], nullptr, 10);
    else if (std::strcmp(argv[i], "--first") == 0) first = std::atoll(argv[i + 1]);
    else argc = 0;
  }
  if (argc % 2 == 0) {
    std::fprintf(stderr, "usage: fuzz_ops [--seconds S] [--iterations N] [--seed X] [--first I]\n");
    return 2;
  }
#if defined(FUZZ_SANITIZED)
  __sanitizer_set_death_callback(fuzz::say_how_to_repeat);
#else
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL})
    std::signal(signal, [](int which) {  // a forbidden page, most likely
      std::signal(which, SIG_DFL);
      fuzz::say_how_to_repeat();
      std::raise(which);
    });
#endif
  if (iterations < 0) iterations = seconds > 0 ? std::numeric_limits<int64_t>::max() - first : 1000;
  const auto now = [] {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double end = now() + seconds;
  std::vector<uint8_t> bytes;
  int64_t done = 0;
  for (; done < iterations && (seconds <= 0 || now() < end); ++done) {
    fuzz::current_iteration = first + done;
    // Every iteration stands for itself, so that one alone can be repeated.
    fuzz::Random random{(fuzz::current_seed + 1) * 0xd1342543de82ef95ull + static_cast<uint64_t>(fuzz::current_iteration)};
    random.next();
    bytes.resize(static_cast<size_t>(random.below(240)) + 8);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("fuzz_ops: %" PRId64 " iterations:", done);
  for (const fuzz::Target& target : fuzz::targets) std::printf(" %s %" PRId64, target.name, target.runs);
  std::printf("\n");
  return 0;
}
#endif
