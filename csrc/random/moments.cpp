#include "random/moments.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/integers.hpp"
#include "core/parallel.hpp"

namespace pyinit {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kWhole = 32;       // elements that kernels take at a time
constexpr int64_t kChunk = 1 << 16;  // elements of a task
constexpr int64_t kGrain = 1 << 17;  // elements that are worth a thread

Moments from_sums(const Sums& of, int64_t count) {
  const double n = static_cast<double>(count), squares = of.squares - of.sum * of.sum / n;
  // What min and max of a NaN are depends on the instruction set.
  if (!std::isfinite(squares)) return {count, kNan, kNan, kNan, kNan};
  return {count, of.first + of.sum / n, std::max(0.0, squares), of.min, of.max};
}

// The elements [begin, end) in order of memory.
Moments measure_range(const View& view, const InlineVector<Dim>& in_order, int64_t begin, int64_t end) {
  const int64_t size = size_of(view.dtype), stride = in_order[in_order.size() - 1].stride;
  alignas(64) char gathered[kMeasured * 8];
  Moments all;
  for_each_run(in_order, begin, end, [&](int64_t offset, int64_t n) {
    for (int64_t i = 0; i < n; i += kMeasured) {
      const int64_t some = std::min(kMeasured, n - i);
      const char* from = view.data + (offset + i * stride) * size;
      if (stride != 1) {
        for (int64_t j = 0; j < some; ++j) {
          std::memcpy(gathered + j * size, from + j * stride * size, static_cast<size_t>(size));
        }
        from = gathered;
      }
      all = all + measure(from, view.dtype, some);
    }
  });
  return all;
}

}  // namespace

double Moments::std() const { return count > 0 ? std::sqrt(squares / static_cast<double>(count)) : kNan; }

Moments operator+(const Moments& a, const Moments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  const double n = static_cast<double>(a.count + b.count), share = static_cast<double>(b.count) / n;
  const double shift = b.mean - a.mean;
  const bool is_nan = std::isnan(a.min) || std::isnan(b.min);
  return {a.count + b.count, a.mean + shift * share,
          a.squares + b.squares + shift * shift * static_cast<double>(a.count) * share,
          is_nan ? kNan : std::min(a.min, b.min), is_nan ? kNan : std::max(a.max, b.max)};
}

Moments measure(const void* values, DType dtype, int64_t count) {
  const auto sums = moments_kernels().sums[static_cast<int>(dtype)];
  const int64_t whole = count / kWhole * kWhole, rest = count - whole;
  Sums of;
  Moments all;
  if (whole > 0) {
    sums(values, whole, of);
    all = from_sums(of, whole);
  }
  if (rest > 0) {
    // Filled up with the first of them, which is at no distance from itself.
    const auto size = static_cast<size_t>(size_of(dtype));
    const char* from = static_cast<const char*>(values) + static_cast<size_t>(whole) * size;
    alignas(64) char padded[kWhole * 8];
    std::memcpy(padded, from, static_cast<size_t>(rest) * size);
    for (auto i = static_cast<size_t>(rest); i < kWhole; ++i) std::memcpy(padded + i * size, from, size);
    sums(padded, kWhole, of);
    all = all + from_sums(of, rest);
  }
  return all;
}

std::vector<Moments> measure_many(const std::vector<View>& views, int threads) {
  struct Chunk {
    size_t view;
    int64_t begin, end;
    Moments moments;
  };
  std::vector<InlineVector<Dim>> orders;
  std::vector<Chunk> chunks;
  int64_t work = 0;
  for (size_t v = 0; v < views.size(); ++v) {
    const int64_t count = views[v].count();
    orders.push_back(memory_order(views[v]));
    work += count;
    for (int64_t i = 0; i < count; i += kChunk) chunks.push_back({v, i, std::min(count, i + kChunk), {}});
  }
  Steps steps;
  steps.add(static_cast<int64_t>(chunks.size()), [&](int64_t i, int) {
    Chunk& c = chunks[static_cast<size_t>(i)];
    c.moments = measure_range(views[c.view], orders[c.view], c.begin, c.end);
  });
  steps.run(usable_threads(threads, work, kGrain));
  std::vector<Moments> all(views.size());
  for (const Chunk& c : chunks) all[c.view] = all[c.view] + c.moments;
  return all;
}

}  // namespace pyinit
