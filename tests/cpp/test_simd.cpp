// One level of csrc/core/simd.h against scalar arithmetic; prints the failures and returns how many there were.
#include "core/simd.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

using namespace fastpose;
using namespace fastpose::FASTPOSE_SIMD_NS;

namespace {

constexpr int kLanes = Vec::lanes;
int failures = 0;

void check(const char* what, double input, double got, double expected, double tolerance) {
  const bool same = (std::isnan(got) && std::isnan(expected)) || got == expected || std::fabs(got - expected) <= tolerance;
  if (same) return;
  ++failures;
  std::printf("%s(%.9g): expected %.9g, got %.9g\n", what, input, expected, got);
}

template <class F, class G>
void unary(const char* what, const std::vector<float>& values, F vector_form, G scalar_form, double relative) {
  for (size_t at = 0; at + kLanes <= values.size(); at += kLanes) {
    float out[kLanes];
    store(out, vector_form(load(&values[at])));
    for (int i = 0; i < kLanes; ++i) {
      const double expected = scalar_form(values[at + i]);
      check(what, values[at + i], out[i], expected, relative * std::fabs(expected));
    }
  }
}

struct Triple { float a, b, c; };

// First one that a sum in double, rounded to float, gets wrong. Then random ones: products close to half of the addend's last bit, where
// such mistakes are; operands of like size, which cancel; tiny ones, whose sum is subnormal; and random bits, which may be no number.
Triple triple(int i) {
  if (i == 0) return {0x1.000002p0f, 0x1.fffffcp-25f, 0x1.000002p0f};
  static uint64_t state = 1;
  const auto random = [] {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<uint32_t>(state >> 32);
  };
  const auto number = [&](int low, int high) {  // of either sign, at least 2^low and below 2^(high + 1)
    const float fraction = 1.f + std::ldexp(static_cast<float>(random() >> 9), -23);
    const int exponent = low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1));
    return std::ldexp((random() & 1) != 0 ? fraction : -fraction, exponent);
  };
  const auto any_bits = [&] {
    const uint32_t bits = random();
    float x;
    memcpy(&x, &bits, 4);
    return x;
  };
  const float a = number(0, 0);
  switch (i % 4) {
    case 0: return {a, 0x1p-24f / a, number(0, 0)};
    case 1: return {a, number(-50, 26), number(-1, 1)};
    case 2: return {a, number(-149, -120), number(-149, -120)};
    default: return {any_bits(), any_bits(), any_bits()};
  }
}

}  // namespace

int main() {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values = {0.f, -0.f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 1e-30f, -1e-30f, 8388607.5f, -8388607.5f,
                               8388609.f, 3e9f, -3e9f, 1e38f, -1e38f, inf, -inf, nan, 255.4f, 255.5f, 256.f, 300.f};
  for (int i = 0; i < 1000; ++i) values.push_back(static_cast<float>(i) * 0.173f - 87.f);
  while (values.size() % 16) values.push_back(1.f);
  std::vector<float> positive;
  for (int i = 1; i < 1601; ++i) positive.push_back(static_cast<float>(i * i) * 0.0173f);
  constexpr double ulp = 1.1920929e-7;

  unary("floor", values, [](Vec v) { return floor(v); }, [](float x) { return std::floor(x); }, 0);
  unary("round", values, [](Vec v) { return round(v); }, [](float x) { return std::nearbyint(x); }, 0);
  unary("abs", values, [](Vec v) { return abs(v); }, [](float x) { return std::fabs(x); }, 0);
  unary("exp", values, [](Vec v) { return exp(v); },
        [](float x) { return x < -87.33654f ? 0. : x > 88.37626f ? std::exp(88.37626f) : std::exp(double(x)); }, 2 * ulp);
  unary("log", positive, [](Vec v) { return log(v); }, [](float x) { return std::log(double(x)); }, 2 * ulp);
  unary("sqrt", positive, [](Vec v) { return sqrt(v); }, [](float x) { return std::sqrt(x); }, 0);

  for (size_t at = 0; at + kLanes <= values.size(); at += kLanes) {
    const float* p = &values[at];
    uint16_t half[kLanes], brain[kLanes];
    uint8_t bytes[kLanes];
    float out[kLanes + 1], widened[kLanes];
    store_f16(half, load(p));
    store_bf16(brain, load(p));
    store_u8(bytes, load(p));
    store(widened, load_f16(half));
    for (int i = 0; i < kLanes; ++i) {
      if (!std::isnan(p[i])) check("f16 bits", p[i], half[i], float16_bits(p[i]), 0);
      check("f16 value", p[i], widened[i], float16_value(half[i]), 0);
      check("bf16 bits", p[i], brain[i], bfloat16_bits(p[i]), 0);
      check("u8", p[i], bytes[i], p[i] > 0 ? std::nearbyint(std::fmin(p[i], 255.f)) : 0, 0);
    }
    store(widened, load_bf16(brain));
    for (int i = 0; i < kLanes; ++i) check("bf16 value", p[i], widened[i], bfloat16_value(brain[i]), 0);
    store(widened, load_u8(bytes));
    for (int i = 0; i < kLanes; ++i) check("u8 value", p[i], widened[i], bytes[i], 0);
    for (int n = 0; n <= kLanes; ++n) {
      for (float& x : out) x = -7.f;
      store_n(out, load_n(p, n), n);
      for (int i = 0; i <= kLanes; ++i) check("load_n store_n", n, out[i], i < n ? p[i] : -7.f, 0);
      store(out, load_n(p, n));
      for (int i = 0; i < kLanes; ++i) check("load_n", n, out[i], i < n ? p[i] : 0.f, 0);
    }
    store(out, select(load(p) < set(1.f), set(2.f), set(3.f)));
    for (int i = 0; i < kLanes; ++i) check("select <", p[i], out[i], p[i] < 1.f ? 2.f : 3.f, 0);
    store(out, max(load(p), set(1.f)));
    for (int i = 0; i < kLanes; ++i) check("max", p[i], out[i], p[i] > 1.f ? p[i] : 1.f, 0);
    store(out, min(load(p), set(1.f)));
    for (int i = 0; i < kLanes; ++i) check("min", p[i], out[i], p[i] < 1.f ? p[i] : 1.f, 0);
    store(out, max(set(1.f), load(p)));
    for (int i = 0; i < kLanes; ++i) check("max, the value second", p[i], out[i], 1.f > p[i] ? 1.f : p[i], 0);
    store(out, min(set(1.f), load(p)));
    for (int i = 0; i < kLanes; ++i) check("min, the value second", p[i], out[i], 1.f < p[i] ? 1.f : p[i], 0);
    int32_t truncated[kLanes], rounded[kLanes];
    istore(truncated, to_int(load(p)));
    istore(rounded, to_int_round(load(p)));
    for (int i = 0; i < kLanes; ++i) {
      const bool fits = p[i] >= -2147483648.f && p[i] < 2147483648.f;
      check("to_int", p[i], truncated[i], fits ? std::trunc(p[i]) : -2147483648., 0);
      check("to_int_round", p[i], rounded[i], fits ? std::nearbyint(p[i]) : -2147483648., 0);
    }
    uint32_t expected_bits = 0;
    for (int i = 0; i < kLanes; ++i) expected_bits |= (p[i] >= 0.5f ? 1u : 0u) << i;
    check("bits", 0, bits(load(p) >= set(0.5f)), expected_bits, 0);
    check("bits of ~", 0, bits(~(load(p) >= set(0.5f))), ~expected_bits & ((1ull << kLanes) - 1), 0);
  }

  // Integers, gathers, reductions.
  int32_t ints[kLanes], table[64];
  for (int i = 0; i < 64; ++i) table[i] = i * 1000003;
  istore(ints, (iiota() + iset(3)) * iset(-70001) - iset(5));
  for (int i = 0; i < kLanes; ++i) check("int arithmetic", i, ints[i], (i + 3) * -70001 - 5, 0);
  istore(ints, gather_i32(table, iiota() * iset(8)));
  for (int i = 0; i < kLanes; ++i) check("gather_i32", i, ints[i], table[i * 2], 0);
  istore(ints, shift_right_arithmetic<1>(iset(-5)) + shift_left<4>(iset(3)) + shift_right<28>(iset(-1)));
  check("shifts", 0, ints[0], -3 + 48 + 15, 0);
  istore(ints, shift_right_arithmetic<0>(iset(-5)) + shift_left<0>(iset(3)) + shift_right<0>(iset(-1)));
  check("shifts by 0", 0, ints[0], -5 + 3 - 1, 0);
  float floats[64], out[kLanes];
  for (int i = 0; i < 64; ++i) floats[i] = i * 0.5f;
  store(out, gather_f32(floats, iiota() * iset(3)));
  for (int i = 0; i < kLanes; ++i) check("gather_f32", i, out[i], i * 1.5f, 0);
  check("reduce_add", 0, reduce_add(iota()), kLanes * (kLanes - 1) / 2, 0);
  check("reduce_max", 0, reduce_max(iota() - set(3.f)), kLanes - 4, 0);
  check("reduce_min", 0, reduce_min(set(2.f) - iota()), 3 - kLanes, 0);
  store(out, madd(iota(), set(2.f), set(1.f)));
  for (int i = 0; i < kLanes; ++i) check("madd", i, out[i], 2 * i + 1, 0);

  float a[kLanes] = {}, b[kLanes] = {}, c[kLanes] = {};
  for (int i = 0; i < 1 << 20; ++i) {
    const Triple t = triple(i);
    const float expected = std::fma(t.a, t.b, t.c);
    check("fused", t.a, fastpose::fused(t.a, t.b, t.c), expected, 0);
    const int lane = i % kLanes;  // those before it hold the triples before
    a[lane] = t.a;
    b[lane] = t.b;
    c[lane] = t.c;
    store(out, fused(load(a), load(b), load(c)));
    check("fused, vector", t.a, out[lane], expected, 0);
  }

  std::printf("%d lanes, %d failures\n", kLanes, failures);
  return failures != 0;
}
