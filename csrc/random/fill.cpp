#include "random/fill.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/rounding.hpp"
#include "random/kernels.hpp"
#include "random/normal_cdf.hpp"
#include "random/structured.hpp"
#include "random/tiling.hpp"

namespace pyinit {

namespace {

constexpr int64_t kGrain = 1 << 16;  // elements that are worth a thread
constexpr int64_t kAlign = 256;      // borders between threads, in elements

// A view, what to put there, and the kernel that makes it. Its units are elements where these are written in place,
// else tiles.
template <class Params> class Filling {
 public:
  Filling(const View& view, const Stream& stream, const Params& params, const Generate<Params> (&table)[kDTypes])
      : data_(view.data),
        dtype_(view.dtype),
        count_(view.count()),
        stream_(stream),
        params_(params),
        generate_(table[static_cast<int>(view.dtype)]),
        tiling_(coalesce(view)) {}

  bool is_direct() const { return tiling_.is_direct(); }
  int64_t units() const { return is_direct() ? count_ : tiling_.tiles(); }

  void run(int64_t begin, int64_t end) const {
    if (is_direct()) return in_place(begin, end, [](const void*, int64_t) {});
    in_tiles(begin, end, [](const void*, int64_t) {});
  }

  // The same, and what the elements are, each measured while it is in the cache.
  Moments run_and_measure(int64_t begin, int64_t end) const {
    Moments all;
    const auto add = [&](const void* values, int64_t n) { all = all + measure(values, dtype_, n); };
    if (is_direct()) {
      for (int64_t i = begin; i < end; i += kMeasured) in_place(i, std::min(end, i + kMeasured), add);
    } else {
      in_tiles(begin, end, add);
    }
    return all;
  }

 private:
  // Both call written(values, count) for what they have written, side by side.
  template <class Written> void in_place(int64_t begin, int64_t end, Written&& written) const {
    tiling_.for_each_run(begin, end, [&](uint64_t index, int64_t n, int64_t offset) {
      void* const to = data_ + offset * size_of(dtype_);
      generate_(params_, stream_, index, n, to);
      written(to, n);
    });
  }

  template <class Written> void in_tiles(int64_t begin, int64_t end, Written&& written) const {
    const auto in_units_of = [&](auto unit) {
      decltype(unit) buffer[kTile];
      for (int64_t t = begin; t < end; ++t) {
        const int64_t n = tiling_.fill_tile(
            t, buffer, [&](uint64_t index, int64_t count, void* to) { generate_(params_, stream_, index, count, to); });
        written(buffer, n);
      }
    };
    switch (size_of(dtype_)) {
      case 2: return in_units_of(uint16_t{});
      case 4: return in_units_of(uint32_t{});
      default: return in_units_of(uint64_t{});
    }
  }

  char* data_;
  DType dtype_;
  int64_t count_;
  Stream stream_;
  Params params_;
  Generate<Params> generate_;
  Tiling tiling_;
};

const Generate<Uniform> (&kernels_of(const Uniform&))[kDTypes] { return random_kernels().uniform; }
const Generate<Normal> (&kernels_of(const Normal&))[kDTypes] { return random_kernels().normal; }
const Generate<RedrawnNormal> (&kernels_of(const RedrawnNormal&))[kDTypes] { return random_kernels().redrawn_normal; }
const Generate<TruncNormal> (&kernels_of(const TruncNormal&))[kDTypes] { return random_kernels().trunc_normal; }
const Generate<NormalTail> (&kernels_of(const NormalTail&))[kDTypes] { return random_kernels().normal_tail; }
const Generate<Bernoulli> (&kernels_of(const Bernoulli&))[kDTypes] { return random_kernels().bernoulli; }

void fill_alone(const View& view, const Stream& stream, Distribution distribution, const Numbers& numbers,
                int threads) {
  const int64_t count = view.count();
  if (count == 0) return;
  with_parameters(distribution, view.dtype, numbers, [&](const auto& params) {
    const Filling fill(view, stream, params, kernels_of(params));
    const int team = usable_threads(threads, count, kGrain);
    parallel_pieces(team, fill.units(), fill.is_direct() ? kAlign : 1, fill.is_direct() ? 1 : kTile,
                    [&](int64_t begin, int64_t end) { fill.run(begin, end); });
  });
}

}  // namespace

void fill_uniform(const View& view, const Stream& stream, double low, double high, int threads) {
  fill_alone(view, stream, Distribution::uniform, {low, high}, threads);
}

void fill_normal(const View& view, const Stream& stream, double mean, double std, int threads) {
  fill_alone(view, stream, Distribution::normal, {mean, std}, threads);
}

void fill_trunc_normal(const View& view, const Stream& stream, double mean, double std, double low, double high,
                       int threads) {
  fill_alone(view, stream, Distribution::trunc_normal, {mean, std, low, high}, threads);
}

void fill_trunc_normal_v1(const View& view, const Stream& stream, double mean, double std, double low, double high,
                          int threads) {
  fill_alone(view, stream, Distribution::trunc_normal_v1, {mean, std, low, high}, threads);
}

void fill_bernoulli(const View& view, const Stream& stream, double probability, int threads) {
  if (probability <= 0 || probability >= 1) return fill_constant(view, probability, threads);
  fill_alone(view, stream, Distribution::bernoulli, {probability}, threads);
}

// ---- Many at once --------------------------------------------------------------------------------------

namespace {

constexpr int64_t kChunk = 1 << 15;  // elements of a task

// A tensor in its tasks.
struct Tasks {
  std::function<Moments(int64_t begin, int64_t end)> run;
  int64_t units, chunk;
};

Tasks tasks_of(const Fill& fill) {
  if (fill.distribution == Distribution::constant) {
    const auto run = [&view = fill.view, value = fill.numbers[0]](int64_t, int64_t) {
      fill_constant(view, value, 1);
      Moments moments = measure(view.data, view.dtype, 1);
      moments.count = view.count();
      return moments;
    };
    return {run, 1, 1};
  }
  Tasks tasks{};
  with_parameters(fill.distribution, fill.view.dtype, fill.numbers, [&](const auto& params) {
    const Filling filling(fill.view, fill.stream, params, kernels_of(params));
    tasks = {[filling](int64_t begin, int64_t end) { return filling.run_and_measure(begin, end); }, filling.units(),
             filling.is_direct() ? kChunk : kChunk / kTile};
  });
  return tasks;
}

}  // namespace

std::vector<Moments> fill_many(const std::vector<Fill>& fills, int threads) {
  struct Task {
    size_t fill;
    int64_t begin, end;
    Moments moments;
  };
  std::vector<Tasks> of;
  std::vector<Task> tasks;
  of.reserve(fills.size());
  int64_t work = 0;
  for (size_t f = 0; f < fills.size(); ++f) {
    const int64_t count = fills[f].view.count();
    work += count;
    of.push_back(count == 0 ? Tasks{{}, 0, 1} : tasks_of(fills[f]));
    const auto& [run, units, chunk] = of.back();
    for (int64_t i = 0; i < units; i += chunk) tasks.push_back({f, i, std::min(units, i + chunk), {}});
  }
  Steps steps;
  steps.add(static_cast<int64_t>(tasks.size()), [&](int64_t i, int) {
    Task& t = tasks[static_cast<size_t>(i)];
    t.moments = of[t.fill].run(t.begin, t.end);
  });
  steps.run(usable_threads(threads, work, kGrain));
  std::vector<Moments> all(fills.size());
  for (const Task& t : tasks) all[t.fill] = all[t.fill] + t.moments;
  return all;
}

}  // namespace pyinit
