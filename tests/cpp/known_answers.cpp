// Fills tensors through the C++ interface, on every instruction set the machine has, and compares checksums with
// tests/known_answers.txt.
//
//   pyinit_known_answers FILE    compare; prints what differs; exit status 1 if anything does
//   pyinit_known_answers         print the checksums in the file's form, by the best instruction set
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "activation/activate.hpp"
#include "conv/convolution.hpp"
#include "core/isa.hpp"
#include "core/parallel.hpp"
#include "core/view.hpp"
#include "linalg/gemm.hpp"
#include "linalg/orthogonal.hpp"
#include "random/fill.hpp"
#include "random/torch_fill.hpp"

using namespace pyinit;

namespace {

constexpr int64_t kCount = 10007;
constexpr Stream kStream{0x0123456789ABCDEFU, 0xFEDCBA9876543210U};

// CRC-32 (ISO-HDLC), as zlib's.
uint32_t crc32(const std::vector<unsigned char>& bytes) {
  uint32_t crc = ~0U;
  for (const unsigned char byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320U : 0);
  }
  return ~crc;
}

struct Fill {
  std::string name;
  std::function<void(const View&)> run;
};

std::vector<Fill> fills() {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto trunc = [](double mean, double std, double low, double high) {
    return [=](const View& v) { fill_trunc_normal_v1(v, kStream, mean, std, low, high, 2); };
  };
  const auto trunc_v2 = [](double mean, double std, double low, double high) {
    return [=](const View& v) { fill_trunc_normal(v, kStream, mean, std, low, high, 2); };
  };
  return {
      {"uniform", [](const View& v) { fill_uniform(v, kStream, -1.5, 3.25, 2); }},
      {"normal", [](const View& v) { fill_normal(v, kStream, 0.5, 2.0, 2); }},
      {"bernoulli", [](const View& v) { fill_bernoulli(v, kStream, 0.3, 2); }},
      {"trunc_normal", trunc(0, 1, -2, 2)},
      {"trunc_normal_wide", trunc(0, 0.02, -2, 2)},
      {"trunc_normal_lopsided", trunc(1, 2, -3, 1.5)},
      {"trunc_normal_one_side", trunc(0, 1, 2, 3)},
      {"trunc_normal_left_tail", trunc(0, 1, -30, -9)},
      {"trunc_normal_right_tail", trunc(0, 1, 30, infinity)},
      {"trunc_normal_v2", trunc_v2(0, 1, -2, 2)},
      {"trunc_normal_v2_wide", trunc_v2(0, 0.02, -2, 2)},
      {"trunc_normal_v2_lopsided", trunc_v2(1, 2, -3, 5.5)},
      {"trunc_normal_v2_one_side", trunc_v2(0.5, 3, -infinity, 5)},
      {"trunc_normal_v2_narrow", trunc_v2(0, 1, -1.5, 1.5)},
  };
}

constexpr std::pair<const char*, DType> kTypes[] = {
    {"float16", DType::f16}, {"bfloat16", DType::bf16}, {"float32", DType::f32}, {"float64", DType::f64}};

// torch's generator after manual_seed(2024).
TorchGenerator torch_generator() {
  TorchGenerator g{};
  uint32_t word = 2024;
  for (uint32_t i = 0; i < mt19937::kBlock; ++i) {
    if (i > 0) word = 1812433253U * (word ^ word >> 30) + i;
    g.mt.words[i] = word;
  }
  g.mt.used = mt19937::kBlock;
  return g;
}

// torch's own numbers. Those of float64 depend on the C library where they are not uniform.
std::vector<Fill> torch_fills(DType type) {
  constexpr auto kVector = TorchArithmetic::vector;
  const auto with_generator = [](auto fill) {
    return [=](const View& v) {
      TorchGenerator g = torch_generator();
      fill(v, g);
    };
  };
  std::vector<Fill> out = {{"torch_uniform", with_generator([](const View& v, TorchGenerator& g) {
                              torch_uniform(v, g, -1.5, 3.25, kVector, 2);
                            })}};
  if (type == DType::f64) return out;
  out.push_back({"torch_normal",
                 with_generator([](const View& v, TorchGenerator& g) { torch_normal(v, g, 0.5, 2.0, kVector, 2); })});
  out.push_back({"torch_trunc_normal", with_generator([](const View& v, TorchGenerator& g) {
                   torch_trunc_normal(v, g, 0, 1, -2, 2, kVector, 2);
                 })});
  return out;
}

// Starting points: the beginning, and one that crosses the counter's 32-bit border.
const std::pair<const char*, int64_t> kStarts[] = {{"0", 0}, {"2^34-5001", (int64_t{1} << 34) - 5001}};

struct Layout {
  Integers shape, strides, whole = {}, start = {};

  // Elements from the first to the last in memory.
  int64_t span() const {
    int64_t last = 0;
    for (size_t d = 0; d < shape.size(); ++d) last += (shape[d] - 1) * strides[d];
    return last + 1;
  }
};

struct Case {
  std::string name;  // what fills, the dtype, and where or in which shape
  DType type;
  Layout layout;
  std::function<void(const View&)> fill;
  bool needs_fma = false;  // other bits without
};

std::vector<Case> random_cases() {
  std::vector<Case> out;
  const auto add = [&](const Fill& fill, const char* type_name, DType type, const char* start_name, int64_t start) {
    out.push_back(
        {fill.name + " " + type_name + " " + start_name, type, {{kCount}, {1}, {int64_t{1} << 35}, {start}}, fill.run});
  };
  for (const auto& [type_name, type] : kTypes) {
    for (const auto& [start_name, start] : kStarts) {
      for (const Fill& fill : fills()) add(fill, type_name, type, start_name, start);
    }
    for (const Fill& fill : torch_fills(type)) add(fill, type_name, type, "0", 0);
  }
  return out;
}

constexpr double kGain = 1.25;

std::vector<Case> orthogonal_cases() {
  const std::pair<const char*, Layout> layouts[] = {
      {"193x193", {{193, 193}, {193, 1}}},
      {"130x40", {{130, 40}, {40, 1}}},
      {"17x100", {{17, 100}, {100, 1}}},
      {"900x220", {{900, 220}, {220, 1}}},
      {"1x1", {{1, 1}, {1, 1}}},
      {"130x40-second-of-3", {{130, 40}, {40, 1}, {390, 40}, {130, 0}}},
      {"130x40-strided", {{130, 40}, {2, 263}}},
  };
  std::vector<Case> out;
  for (const auto& [type_name, type] : kTypes) {
    for (const auto& [name, layout] : layouts) {
      out.push_back({std::string("orthogonal ") + type_name + " " + name, type, layout,
                     [](const View& v) { fill_orthogonal({{v, kStream, kGain}}, 2); }, true});
    }
  }
  return out;
}

// Inputs: standard normals from number `first` of the stream on.
template <class T> std::vector<T> normals(int64_t count, int64_t first) {
  std::vector<T> out(static_cast<size_t>(count));
  constexpr DType type = sizeof(T) == 4 ? DType::f32 : DType::f64;
  fill_normal(make_view(reinterpret_cast<char*>(out.data()), type, {count}, {1}, {int64_t{1} << 35}, {first}), kStream,
              0, 1, 2);
  return out;
}

template <class T> std::vector<Case> orthonormalized_cases(const char* type_name, DType type) {
  const std::pair<const char*, Layout> layouts[] = {{"193x193", {{193, 193}, {193, 1}}},
                                                    {"300x70", {{300, 70}, {70, 1}}},
                                                    {"50x49", {{50, 49}, {49, 1}}},
                                                    {"1100x40", {{1100, 40}, {40, 1}}},
                                                    {"33x64", {{33, 64}, {64, 1}}}};
  std::vector<Case> out;
  for (const auto& [name, layout] : layouts) {
    out.push_back({std::string("orthonormalized ") + type_name + " " + name, type, layout,
                   [](const View& v) { fill_orthonormalized(v, normals<T>(v.count(), 0).data(), kGain, 2); }, true});
  }
  return out;
}

// The strides of a, b and c: from matrix to matrix, from row to row and from column to column.
struct Multiplication {
  const char* name;
  ProductSize size;
  double alpha, beta;
  Integers a, b, c;
};

template <class T> void run(const Multiplication& p, const View& v) {
  const auto& [batch, m, n, k] = p.size;
  const auto matrices = [](auto* data, const Integers& strides) {
    return Matrices<std::remove_reference_t<decltype(*data)>>{data, strides[0], strides[1], strides[2]};
  };
  const std::vector<T> a = normals<T>(Layout{{batch, m, k}, p.a}.span(), 0);
  const std::vector<T> b = normals<T>(Layout{{batch, k, n}, p.b}.span(), 1 << 20);
  T* const c = reinterpret_cast<T*>(v.data);
  if (p.beta != 0) {
    const std::vector<T> before = normals<T>(Layout{{batch, m, n}, p.c}.span(), 1 << 21);
    std::copy(before.begin(), before.end(), c);
  }
  gemm(p.size, static_cast<T>(p.alpha), matrices(a.data(), p.a), matrices(b.data(), p.b), static_cast<T>(p.beta),
       matrices(c, p.c), 2);
}

template <class T> std::vector<Case> gemm_cases(const char* type_name, DType type) {
  const Multiplication all[] = {
      {"123x71x501", {1, 123, 71, 501}, 1, 0, {0, 501, 1}, {0, 71, 1}, {0, 71, 1}},
      {"3x37x45x19-transposed", {3, 37, 45, 19}, -1.7, 0.3, {703, 1, 37}, {855, 1, 19}, {1665, 45, 1}},
      {"50x29x33-strided", {1, 50, 29, 33}, 2.1, -1, {0, 67, 2}, {0, 3, 100}, {0, 2, 101}},
  };
  std::vector<Case> out;
  for (const Multiplication& p : all) {
    out.push_back({std::string("gemm ") + type_name + " " + p.name,
                   type,
                   {{p.size.batch, p.size.m, p.size.n}, p.c},
                   [p](const View& v) { run<T>(p, v); },
                   true});
  }
  return out;
}

// What it computes, of three, is filled; the other two are normals.
struct Convolution {
  const char* name;
  int64_t batch, inputs, outputs;
  Extents size, kernel;
  Window window;
};
enum class Part { output, input, weight };

Extents output_size(const Convolution& c) {
  Extents out;
  for (size_t i = 0; i < kSpatial; ++i) {
    const Window& w = c.window;
    out[i] = (c.size[i] + 2 * w.padding[i] - w.dilation[i] * (c.kernel[i] - 1) - 1) / w.stride[i] + 1;
  }
  return out;
}

// Dense, channels first or last.
template <class T> Images<T> images(T* data, int64_t batch, int64_t channels, const Extents& size, bool last) {
  const int64_t pixel = last ? channels : 1, pixels = size[0] * size[1] * size[2];
  return {data,
          batch,
          channels,
          size,
          channels * pixels,
          last ? 1 : pixels,
          {size[1] * size[2] * pixel, size[2] * pixel, pixel}};
}

template <class T> void run(const Convolution& c, bool last, Part part, const View& v) {
  const Extents out = output_size(c);
  const int64_t inputs = c.inputs / c.window.groups;
  const auto count = [](int64_t batch, int64_t channels, const Extents& size) {
    return batch * channels * size[0] * size[1] * size[2];
  };
  const std::vector<T> x = normals<T>(count(c.batch, c.inputs, c.size), 0);
  const std::vector<T> w = normals<T>(count(c.outputs, inputs, c.kernel), 1 << 20);
  const std::vector<T> y = normals<T>(count(c.batch, c.outputs, out), 1 << 21);
  const std::vector<T> bias = normals<T>(std::max(c.inputs, c.outputs), 1 << 22);
  T* const to = reinterpret_cast<T*>(v.data);
  const auto x_images = images(x.data(), c.batch, c.inputs, c.size, last);
  const auto w_images = images(w.data(), c.outputs, inputs, c.kernel, last);
  const auto y_images = images(y.data(), c.batch, c.outputs, out, last);
  const Epilogue<T> epilogue = {bias.data(), Activation::gelu, 0};
  switch (part) {
    case Part::output:
      return convolve(c.window, x_images, w_images, epilogue, images(to, c.batch, c.outputs, out, last), 2);
    case Part::input:
      return convolve_transposed(c.window, y_images, w_images, epilogue, images(to, c.batch, c.inputs, c.size, last),
                                 2);
    case Part::weight:
      return convolve_weight_gradient(c.window, x_images, y_images, images(to, c.outputs, inputs, c.kernel, last), 2);
  }
}

template <class T> std::vector<Case> convolution_cases(const char* type_name, DType type) {
  const Convolution all[] = {
      {"3x3", 2, 61, 50, {1, 19, 17}, {1, 3, 3}, {{1, 1, 1}, {0, 1, 1}, {1, 1, 1}, 1}},
      {"7x7/2", 1, 3, 20, {1, 37, 33}, {1, 7, 7}, {{1, 2, 2}, {0, 3, 3}, {1, 1, 1}, 1}},
      {"1x1", 3, 200, 33, {1, 7, 7}, {1, 1, 1}, {{1, 1, 1}, {0, 0, 0}, {1, 1, 1}, 1}},
      {"groups", 2, 24, 36, {1, 11, 13}, {1, 3, 2}, {{1, 1, 3}, {0, 2, 0}, {1, 2, 1}, 2}},
      {"volume", 2, 5, 14, {5, 6, 7}, {3, 2, 3}, {{1, 2, 1}, {1, 0, 1}, {1, 1, 2}, 1}},
      {"depthwise", 2, 19, 19, {1, 23, 21}, {1, 3, 3}, {{1, 1, 1}, {0, 1, 1}, {1, 1, 1}, 19}},
      {"depthwise/2", 2, 19, 38, {1, 23, 21}, {1, 5, 5}, {{1, 2, 2}, {0, 2, 2}, {1, 1, 1}, 19}},
      {"depthwise-small", 3, 19, 19, {1, 7, 7}, {1, 3, 3}, {{1, 2, 1}, {0, 1, 1}, {1, 1, 1}, 19}},
  };
  const std::pair<const char*, Part> parts[] = {
      {"convolution", Part::output}, {"by-input", Part::input}, {"by-weight", Part::weight}};
  std::vector<Case> out;
  for (const Convolution& c : all) {
    for (const bool last : {false, true}) {
      for (const auto& [part_name, part] : parts) {
        const Extents size = part == Part::output ? output_size(c) : part == Part::input ? c.size : c.kernel;
        const int64_t rows = part == Part::weight ? c.outputs : c.batch;
        const int64_t columns = part == Part::output  ? c.outputs
                                : part == Part::input ? c.inputs
                                                      : c.inputs / c.window.groups;
        const int64_t count = rows * columns * size[0] * size[1] * size[2];
        out.push_back({std::string(part_name) + " " + type_name + " " + c.name + (last ? "-channels-last" : ""),
                       type,
                       {{count}, {1}},
                       [c, last, part = part](const View& v) { run<T>(c, last, part, v); },
                       true});
      }
    }
  }
  return out;
}

template <class T> std::vector<Case> activation_cases(const char* type_name, DType type) {
  const std::pair<const char*, Activation> all[] = {
      {"elu", Activation::elu},   {"selu", Activation::selu},        {"gelu", Activation::gelu},
      {"silu", Activation::silu}, {"sigmoid", Activation::sigmoid},  {"gelu_tanh", Activation::gelu_tanh},
      {"tanh", Activation::tanh}, {"softplus", Activation::softplus}};
  std::vector<Case> out;
  for (const auto& [name, activation] : all) {
    out.push_back({std::string("activation ") + type_name + " " + name,
                   type,
                   {{kCount}, {1}},
                   [activation = activation](const View& v) {
                     std::vector<T> x = normals<T>(v.count(), 0);
                     for (T& value : x) value *= 3;
                     View in = v;
                     in.data = reinterpret_cast<char*>(x.data());
                     activate(activation, 1, in, v, 2);
                   },
                   true});
  }
  out.push_back({std::string("softmax ") + type_name + " 7x11x13",
                 type,
                 {{1001}, {1}},
                 [](const View& v) {
                   const std::vector<T> x = normals<T>(v.count(), 0);
                   softmax<T>(false, {7, 11, 13}, x.data(), reinterpret_cast<T*>(v.data), 2);
                 },
                 true});
  return out;
}

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const auto& some :
       {random_cases(), orthogonal_cases(), orthonormalized_cases<float>("float32", DType::f32),
        orthonormalized_cases<double>("float64", DType::f64), gemm_cases<float>("float32", DType::f32),
        gemm_cases<double>("float64", DType::f64), convolution_cases<float>("float32", DType::f32),
        convolution_cases<double>("float64", DType::f64), activation_cases<float>("float32", DType::f32),
        activation_cases<double>("float64", DType::f64)}) {
    out.insert(out.end(), some.begin(), some.end());
  }
  return out;
}

// Of all the memory, what lies between elements included.
uint32_t checksum(const Case& c) {
  const auto& [shape, strides, whole, start] = c.layout;
  std::vector<unsigned char> memory(static_cast<size_t>(c.layout.span() * size_of(c.type)), 0xFF);
  c.fill(make_view(reinterpret_cast<char*>(memory.data()), c.type, shape, strides, whole, start));
  return crc32(memory);
}

// Those of the instruction set in use.
std::map<std::string, uint32_t> checksums() {
  std::map<std::string, uint32_t> out;
  for (const Case& c : cases()) {
    if (!c.needs_fma || has_fma(active_isa())) out[c.name] = checksum(c);
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  set_threads_at_any_loss(true);
  if (argc < 2) {
    for (const auto& [name, crc] : checksums()) std::printf("%s %08x\n", name.c_str(), crc);
    return 0;
  }
  std::map<std::string, uint32_t> known;
  std::ifstream file(argv[1]);
  for (std::string name, type, where, crc; file >> name >> type >> where >> crc;) {
    known[name + " " + type + " " + where] = static_cast<uint32_t>(std::stoul(crc, nullptr, 16));
  }
  const size_t expected = cases().size();
  if (known.size() != expected) std::printf("%s has %zu answers, not %zu\n", argv[1], known.size(), expected);
  int failures = known.size() != expected;
  for (const Isa isa : available_isas()) {
    set_active_isa(name(isa));
    const auto got = checksums();
    int differing = 0;
    for (const auto& [name, crc] : got) {
      if (known.count(name) == 0 || known[name] != crc) {
        std::printf("%s: %s is %08x, not %08x\n", pyinit::name(isa), name.c_str(), crc, known[name]);
        ++differing;
      }
    }
    std::printf("%s: %zu known answers, %d differ\n", pyinit::name(isa), got.size(), differing);
    failures += differing;
  }
  return failures == 0 ? 0 : 1;
}
