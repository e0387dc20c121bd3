// Fills a buffer with every distribution and dtype through the C++ interface, on every instruction set
// the machine has, and compares checksums with tests/known_answers.txt.
//
//   pyinit_known_answers FILE    compare; prints what differs; exit status 1 if anything does
//   pyinit_known_answers         print the checksums in the file's form
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "core/isa.hpp"
#include "core/view.hpp"
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

struct Case {
  std::string name;
  std::function<void(const View&)> fill;
};

std::vector<Case> cases() {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto trunc = [](double mean, double std, double low, double high) {
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
  };
}

const std::pair<const char*, DType> kTypes[] = {
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
std::vector<Case> torch_cases(DType type) {
  constexpr auto kVector = TorchArithmetic::vector;
  const auto with_generator = [](auto fill) {
    return [=](const View& v) {
      TorchGenerator g = torch_generator();
      fill(v, g);
    };
  };
  std::vector<Case> out = {{"torch_uniform", with_generator([](const View& v, TorchGenerator& g) {
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

std::map<std::string, uint32_t> checksums() {
  std::map<std::string, uint32_t> out;
  const auto answer = [&](const Case& c, const char* type_name, DType type, const char* start_name, int64_t start) {
    std::vector<unsigned char> memory(static_cast<size_t>(kCount * size_of(type)), 0xFF);
    c.fill(make_view(reinterpret_cast<char*>(memory.data()), type, {kCount}, {1}, {int64_t{1} << 35}, {start}));
    out[c.name + " " + type_name + " " + start_name] = crc32(memory);
  };
  for (const auto& [type_name, type] : kTypes) {
    for (const auto& [start_name, start] : kStarts) {
      for (const Case& c : cases()) answer(c, type_name, type, start_name, start);
    }
    for (const Case& c : torch_cases(type)) answer(c, type_name, type, "0", 0);
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    for (const auto& [name, crc] : checksums()) std::printf("%s %08x\n", name.c_str(), crc);
    return 0;
  }
  std::map<std::string, uint32_t> known;
  std::ifstream file(argv[1]);
  for (std::string name, type, start, crc; file >> name >> type >> start >> crc;) {
    known[name + " " + type + " " + start] = static_cast<uint32_t>(std::stoul(crc, nullptr, 16));
  }
  int failures = 0;
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
    if (got.size() != known.size()) ++differing;
    std::printf("%s: %zu known answers, %d differ\n", pyinit::name(isa), known.size(), differing);
    failures += differing;
  }
  return failures == 0 ? 0 : 1;
}
