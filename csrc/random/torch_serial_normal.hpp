// torch's normals of all other tensors: one pair after the other.
#pragma once

#include <numbers>

#include "core/parallel.hpp"
#include "random/torch_elements.hpp"

namespace pyinit::torch_stream {

// at::normal_distribution<double>: Box and Muller with the second of a pair kept for the next element.
class SerialNormal {
 public:
  SerialNormal(double mean, double std, TorchArithmetic arithmetic)
      : mean_(mean), std_(std), is_fused_(arithmetic != TorchArithmetic::libm) {}

  struct Pair {
    double first, second;
  };
  // From four tempered words.
  static Pair pair(const uint32_t* w) {
    const double u1 = uniform(w), u2 = uniform(w + 2);
    const double radius = std::sqrt(-2.0 * std::log1p(-u2)), theta = 2.0 * std::numbers::pi * u1;
    return {radius * std::cos(theta), radius * std::sin(theta)};
  }
  double scaled(double z) const { return multiply_add(z, std_, mean_, is_fused_); }

 private:
  static double uniform(const uint32_t* w) {
    const uint64_t bits = (uint64_t{w[0]} << 32 | w[1]) & ((uint64_t{1} << 53) - 1);
    return static_cast<double>(bits) * 0x1p-53;
  }

  double mean_, std_;
  bool is_fused_;
};

// One pass over `count` elements in the order of memory: sink(first, n, values) for the elements that
// is_wanted(element) asks for (and others beside them, whose values mean nothing).
template <class T, class IsWanted, class Sink>
void serial_pass(const SerialNormal& normal, TorchGenerator& g, int64_t count, int threads, IsWanted&& is_wanted,
                 Sink&& sink) {
  const auto give = [&](int64_t element, double z) {
    const auto lane = static_cast<Lane<T>>(normal.scaled(z));
    T value;
    narrow<T>(&lane, 1, &value);
    sink(element, int64_t{1}, &value);
  };
  int64_t begin = 0;
  if (g.has_cached_normal && count > 0) {
    give(begin++, g.cached_normal);
    g.has_cached_normal = false;
    g.cached_normal = 0;
  }
  const int64_t pairs = (count - begin) / 2;
  const auto make = [&](int64_t first_word, int64_t n_words, const uint32_t* words) {
    constexpr int64_t kPairs = kBatch / 2;
    for (int64_t done = 0; done < n_words / 4; done += kPairs) {
      const int64_t n = std::min(kPairs, n_words / 4 - done), first = begin + first_word / 2 + 2 * done;
      uint32_t tempered[4 * kPairs];
      Lane<T> lanes[2 * kPairs] = {};
      T values[2 * kPairs];
      torch_kernels().temper(words + 4 * done, 4 * n, tempered);
      for (int64_t i = 0; i < n; ++i) {
        if (!is_wanted(first + 2 * i) && !is_wanted(first + 2 * i + 1)) continue;
        const SerialNormal::Pair z = SerialNormal::pair(tempered + 4 * i);
        lanes[2 * i] = static_cast<Lane<T>>(normal.scaled(z.first));
        lanes[2 * i + 1] = static_cast<Lane<T>>(normal.scaled(z.second));
      }
      narrow<T>(lanes, 2 * n, values);
      sink(first, 2 * n, static_cast<const T*>(values));
    }
  };
  mt19937::consume(g.mt, 4 * pairs, mt19937::kPiece, usable_threads(threads, count, kGrain / 16), make);
  if (begin + 2 * pairs == count) return;
  mt19937::consume(g.mt, 4, 4, 1, [&](int64_t, int64_t, const uint32_t* words) {
    uint32_t tempered[4];
    torch_kernels().temper(words, 4, tempered);
    const SerialNormal::Pair z = SerialNormal::pair(tempered);
    give(count - 1, z.first);
    g.has_cached_normal = true;
    g.cached_normal = z.second;
  });
}

}  // namespace pyinit::torch_stream
