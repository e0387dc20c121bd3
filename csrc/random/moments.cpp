#include "random/moments.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "random/gather.hpp"
#include "random/two_passes.hpp"

namespace pyinit {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kGrain = 1 << 17;  // elements that are worth a thread

int64_t count_nonfinite(const void* values, DType dtype, int64_t count) {
  return visit(dtype, [&](auto zero) {
    const auto* x = static_cast<const decltype(zero)*>(values);
    return std::count_if(x, x + count, [](auto value) { return !std::isfinite(value_of(value)); });
  });
}

// Statistics of `count` elements, whose sums a kernel has taken, filled up or not.
template <bool all> Moments from_sums(const Sums& sums, const void* values, DType dtype, int64_t count,
                                      const Bounds& bounds) {
  auto [m, frame] = begin_statistics(sums, dtype, count, [&] { return count_nonfinite(values, dtype, count); });
  if (!all && !frame.is_needed) return m;
  Powers powers{};
  if (count % kWhole == 0) {
    const Bounds* const counted = reaches(m, bounds) ? &bounds : nullptr;
    moments_kernels().powers[static_cast<int>(dtype)](values, count, frame.centre, frame.scale, counted, powers);
  } else {
    powers = visit(dtype, [&](auto zero) {
      const auto* x = static_cast<const decltype(zero)*>(values);
      return powers_of_few([x](int64_t i) { return value_of(x[i]); }, count, frame, bounds);
    });
  }
  finish_statistics(powers, frame, m);
  return m;
}

template <bool all> Moments statistics(const void* values, DType dtype, int64_t count, const Bounds& bounds) {
  const auto take = moments_kernels().sums[static_cast<int>(dtype)];
  const int64_t whole = count / kWhole * kWhole, rest = count - whole;
  Sums sums;
  Moments of;
  if (whole > 0) {
    take(values, whole, sums);
    of = from_sums<all>(sums, values, dtype, whole, bounds);
  }
  if (rest > 0) {
    // Filled up with the first of them, which is at no distance from itself.
    const auto size = static_cast<size_t>(size_of(dtype));
    const char* from = static_cast<const char*>(values) + static_cast<size_t>(whole) * size;
    alignas(64) char padded[kWhole * 8];
    std::memcpy(padded, from, static_cast<size_t>(rest) * size);
    for (auto i = static_cast<size_t>(rest); i < kWhole; ++i) std::memcpy(padded + i * size, from, size);
    take(padded, kWhole, sums);
    of = of + from_sums<all>(sums, padded, dtype, rest, bounds);
  }
  return of;
}

// The statistics of the elements [begin, end) of dims, at most kMeasured at a time.
template <class Measure>
Moments measure_range(const View& view, const InlineVector<Dim>& dims, int64_t begin, int64_t end, Measure&& measure) {
  const int64_t size = size_of(view.dtype), stride = dims[dims.size() - 1].stride;
  alignas(64) char gathered[kMeasured * 8];
  Moments all;
  for_each_run(dims, begin, end, [&](int64_t offset, int64_t n) {
    for (int64_t i = 0; i < n; i += kMeasured) {
      const int64_t some = std::min(kMeasured, n - i);
      const char* from = view.data + (offset + i * stride) * size;
      if (stride != 1) {
        gather(from, gathered, some, stride, view.dtype);
        from = gathered;
      }
      all = all + measure(from, some);
    }
  });
  return all;
}

// measure(values, count, view's number) of at most kMeasured elements side by side of each view.
template <class Measure>
std::vector<Moments> of_each(const std::vector<View>& views, int threads, Measure&& measure) {
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
    for (int64_t i = 0; i < count; i += kPart) chunks.push_back({v, i, std::min(count, i + kPart), {}});
  }
  Steps steps;
  steps.add(static_cast<int64_t>(chunks.size()), [&](int64_t i, int) {
    Chunk& c = chunks[static_cast<size_t>(i)];
    c.moments = measure_range(views[c.view], orders[c.view], c.begin, c.end,
                              [&](const void* values, int64_t count) { return measure(values, count, c.view); });
  });
  steps.run(usable_threads(threads, work, kGrain));
  std::vector<Moments> all(views.size());
  for (const Chunk& c : chunks) all[c.view] = all[c.view] + c.moments;
  return all;
}

}  // namespace

double Moments::std() const { return count > 0 ? std::sqrt(squares / static_cast<double>(count)) : kNan; }

Moments operator+(const Moments& a, const Moments& b) { return merged(a, b); }

Moments measure(const void* values, DType dtype, int64_t count) {
  return statistics<false>(values, dtype, count, Bounds{});
}

Moments describe(const void* values, DType dtype, int64_t count, const Bounds& bounds) {
  return statistics<true>(values, dtype, count, bounds);
}

std::vector<Moments> measure_many(const std::vector<View>& views, int threads) {
  return of_each(views, threads, [&](const void* values, int64_t count, size_t view) {
    return measure(values, views[view].dtype, count);
  });
}

std::vector<Moments> describe_many(const std::vector<View>& views, const std::vector<Bounds>& bounds, int threads) {
  return of_each(views, threads, [&](const void* values, int64_t count, size_t view) {
    return describe(values, views[view].dtype, count, bounds[view]);
  });
}

}  // namespace pyinit
