#include "checks.h"

#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <memory>

void run_mistake(const char* name);  // mistakes.cu
void check_stand_ins();              // stand_ins.cu

namespace checks {
namespace {

struct Check {
  const char* name;
  void (*run)(Random&);
};
constexpr Check kChecks[] = {{"affine_crop", affine_crop},
                             {"affine_crop_rows", affine_crop_rows},
                             {"affine_crop_far", affine_crop_far},
                             {"affine_crop_backward", affine_crop_backward},
                             {"box_nms", box_nms},
                             {"heatmap_encode", heatmap_encode},
                             {"heatmap_decode", heatmap_decode},
                             {"heatmap_loss", heatmap_loss},
                             {"scale_gradient", scale_gradient},
                             {"oks", oks},
                             {"oks_nms", oks_nms},
                             {"simcc_decode", simcc_decode},
                             {"simcc_encode", simcc_encode},
                             {"simcc_loss", simcc_loss}};

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double odd_number(Random& random) {
  return random.pick<double>({std::nan(""), INFINITY, -INFINITY, 1e30, -1e30, 0.0, 1e-30});
}

}  // namespace

uint64_t Random::next() {
  uint64_t z = state += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

Array::Array(DType dtype, int64_t count, int64_t skip)
    : memory_(std::malloc(static_cast<size_t>((count + skip) * dtype_size(dtype))), std::free), dtype_(dtype), count_(count), skip_(skip) {
  if (memory_ == nullptr && count > 0) fail("no memory");
}

double Array::get(int64_t i) const {
  switch (dtype_) {
    case DType::UInt8: return as<uint8_t>()[i];
    case DType::Bool: return as<bool>()[i];
    case DType::Float16: return static_cast<double>(fastpose::float16_value(as<uint16_t>()[i]));
    case DType::BFloat16: return static_cast<double>(fastpose::bfloat16_value(as<uint16_t>()[i]));
    case DType::Float32: return static_cast<double>(as<float>()[i]);
    case DType::Float64: return as<double>()[i];
    case DType::Int32: return as<int32_t>()[i];
    case DType::Int64: return static_cast<double>(as<int64_t>()[i]);
  }
  return 0;
}

void Array::put(int64_t i, double value) {
  switch (dtype_) {
    case DType::UInt8: as<uint8_t>()[i] = static_cast<uint8_t>(value); break;
    case DType::Bool: as<bool>()[i] = value != 0; break;
    case DType::Float16: as<uint16_t>()[i] = fastpose::float16_bits(static_cast<float>(value)); break;
    case DType::BFloat16: as<uint16_t>()[i] = fastpose::bfloat16_bits(static_cast<float>(value)); break;
    case DType::Float32: as<float>()[i] = static_cast<float>(value); break;
    case DType::Float64: as<double>()[i] = value; break;
    case DType::Int32: as<int32_t>()[i] = static_cast<int32_t>(value); break;
    case DType::Int64: as<int64_t>()[i] = static_cast<int64_t>(value); break;
  }
}

Array Array::rubbish(int byte) const {
  Array other(dtype_, count_, skip_);
  if (count_ > 0) memset(other.data(), byte, static_cast<size_t>(count_ * dtype_size(dtype_)));
  return other;
}

void Array::copy_from(const Array& other) {
  if (count_ > 0) memcpy(data(), other.data(), static_cast<size_t>(count_ * dtype_size(dtype_)));
}

void fill(Random& random, Array& array, double low, double high, int64_t odd_every) {
  for (int64_t i = 0; i < array.count(); ++i)
    array.put(i, odd_every > 0 && random.one_in(odd_every) ? odd_number(random) : random.between(low, high));
}

namespace {

bool close(const Array& got, const Array& wanted, int64_t i, Tolerance tolerance) {
  const double a = got.get(i), b = wanted.get(i);
  if (a == b || (a != a && b != b)) return true;
  double allowed = tolerance.absolute + tolerance.relative * std::fabs(b);
  if (got.dtype() == DType::Float16) allowed += std::fmax(std::fabs(b) * 0x1p-10, 0x1p-24);
  if (got.dtype() == DType::BFloat16) allowed += std::fabs(b) * 0x1p-7;
  return std::fabs(a - b) <= allowed;
}

}  // namespace

void run(Random& random, const Trial& trial) {
  using cuda_on_cpu::Plan;
  std::vector<Array> before, wanted, first;
  for (Array* output : trial.outputs) {
    before.push_back(output->rubbish(0));
    before.back().copy_from(*output);
  }
  const auto begin = [&](int byte) {
    for (size_t o = 0; o < trial.outputs.size(); ++o) {
      if (trial.adds) trial.outputs[o]->copy_from(before[o]);
      else trial.outputs[o]->copy_from(before[o].rubbish(byte));
    }
  };
  const auto result = [&] {
    std::vector<Array> copies;
    for (Array* output : trial.outputs) {
      copies.push_back(output->rubbish(0));
      copies.back().copy_from(*output);
    }
    return copies;
  };
  begin(0xa5);
  trial.cpu();
  wanted = result();
  char stream;
  const uint64_t seed = random.next();
  const Plan plans[] = {{Plan::Ascending, seed, ~0u, &stream}, {Plan::Descending, seed, trial.strides ? 1u : ~0u, &stream, 12000, 64 * 1024},
                        {Plan::Shuffled, seed, trial.strides ? 2u : ~0u, &stream}};
  for (const Plan& plan : plans) {
    cuda_on_cpu::set_plan(plan);
    begin(plan.order == Plan::Ascending ? 0x5a : 0xff);
    trial.cuda(&stream);
    const bool is_first = plan.order == Plan::Ascending;
    if (is_first) first = result();
    for (size_t o = 0; o < trial.outputs.size(); ++o) {
      const Array& got = *trial.outputs[o];
      for (int64_t i = 0; i < got.count(); ++i) {
        if (!close(got, wanted[o], i, trial.tolerances[o]))
          fail("output %zu, element %" PRId64 " of %" PRId64 ": %.9g on the CPU, %.9g by the kernel", o, i, got.count(), wanted[o].get(i), got.get(i));
        if (trial.adds || is_first) continue;
        const double a = got.get(i), b = first[o].get(i);
        if (a != b && (a == a || b == b)) fail("output %zu, element %" PRId64 ": %.9g or %.9g, in another order of blocks and threads", o, i, b, a);
      }
    }
  }
}

}  // namespace checks

int main(int argc, char** argv) {
  const char *only = nullptr, *mistake = nullptr;
  double seconds = 0;
  int64_t iterations = -1, first = 0;
  uint64_t seed = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seconds") == 0) seconds = std::atof(argv[i + 1]);
    else if (std::strcmp(argv[i], "--iterations") == 0) iterations = std::atoll(argv[i + 1]);
    else if (std::strcmp(argv[i], "--seed") == 0) seed = std::strtoull(argv[i + 1], nullptr, 10);
    else if (std::strcmp(argv[i], "--first") == 0) first = std::atoll(argv[i + 1]);
    else if (std::strcmp(argv[i], "--op") == 0) only = argv[i + 1];
    else if (std::strcmp(argv[i], "--mistake") == 0) mistake = argv[i + 1];
    else argc = 0;
  }
  if (argc % 2 == 0) {
    std::fprintf(stderr, "usage: cuda_on_cpu [--seconds S] [--iterations N] [--seed X] [--first I] [--op NAME] [--mistake NAME]\n");
    return 2;
  }
  if (mistake != nullptr) {
    run_mistake(mistake);
    return 0;
  }
  check_stand_ins();
  if (iterations < 0) iterations = seconds > 0 ? std::numeric_limits<int64_t>::max() - first : 20;
  const double end = checks::now() + seconds;
  int64_t done = 0;
  for (; done < iterations && (seconds <= 0 || checks::now() < end); ++done) {
    for (const checks::Check& check : checks::kChecks) {
      if (only != nullptr && std::strcmp(only, check.name) != 0) continue;
      static char name[160];  // for messages of sanitizers too
      std::snprintf(name, sizeof(name), "to repeat: --op %s --seed %" PRIu64 " --first %" PRId64 " --iterations 1\n", check.name, seed, first + done);
      cuda_on_cpu::set_case(name);
      checks::Random random{(seed + 1) * 0xd1342543de82ef95ull + static_cast<uint64_t>(first + done) * 0x2545f4914f6cdd1dull,
                            static_cast<uint64_t>(first + done)};
      random.next();
      check.run(random);
    }
  }
  std::printf("cuda_on_cpu: %" PRId64 " cases an op:", done);
  for (const checks::Check& check : checks::kChecks) std::printf(" %s", check.name);
  std::printf("\n");
  return 0;
}
