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

// ---- Parameters --------------------------------------------------------------------------------------

Uniform make_uniform(DType dtype, double low, double high) {
  const DType lanes = dtype == DType::f64 ? DType::f64 : DType::f32;
  const double first = round_to(lanes, low);
  const double width = round_to(lanes, round_to(lanes, high) - first);
  const double top = std::max(round_to(dtype, low), next_below(dtype, round_to(dtype, high)));
  return {first, std::ldexp(width, lanes == DType::f64 ? -53 : -24), top};
}

Normal make_normal(double mean, double std) { return {mean, std}; }

Bernoulli make_bernoulli(DType dtype, double probability) {
  return {static_cast<uint64_t>(std::ldexp(probability, dtype == DType::f64 ? 64 : 32))};
}

namespace {

// [low, high] in standard deviations from the mean, mirrored if it lies right of it.
struct Interval {
  double alpha, beta;  // alpha < 0
  bool is_mirrored;
};

Interval standardize(double mean, double std, double low, double high) {
  const double alpha = (low - mean) / std, beta = (high - mean) / std;
  return alpha < 0 ? Interval{alpha, beta, false} : Interval{-beta, -alpha, true};
}

// The outermost values of the dtype in [low, high], or the nearest ones where there are none.
std::pair<double, double> values_inside(DType dtype, double low, double high) {
  const double first = round_up(dtype, low), last = round_down(dtype, high);
  return first <= last ? std::pair(first, last) : std::pair(round_to(dtype, low), round_to(dtype, high));
}

int word_bits(DType dtype) { return dtype == DType::f64 ? 64 : 32; }
double step(DType dtype) { return dtype == DType::f64 ? 0x1p-53 : 0x1p-31; }

}  // namespace

TruncNormal make_trunc_normal(DType dtype, double mean, double std, double low, double high) {
  const auto [alpha, beta, is_mirrored] = standardize(mean, std, low, high);
  const double centre_alpha = normal_centre(alpha), centre_beta = normal_centre(beta);
  const double below = normal_upper_tail(-alpha);
  const double inside = alpha > -1 || beta > 0 ? centre_beta - centre_alpha : normal_upper_tail(-beta) - below;
  const double mass = inside * step(dtype);
  const double median_at = -centre_alpha / inside;
  const auto [first, last] = values_inside(dtype, low, high);
  return {.low = first,
          .high = last,
          .mean = mean,
          .scale = is_mirrored ? -std : std,
          .flip = is_mirrored ? ~uint64_t{0} : 0,
          .last_lower = median_at < 1 ? static_cast<uint64_t>(std::ldexp(median_at, word_bits(dtype))) : ~uint64_t{0},
          .mass = mass,
          .base_lower = below + mass / 2,
          .base_upper = normal_upper_tail(beta) + mass / 2,
          .centre_lower = 2 * centre_alpha + mass,
          .centre_upper = -2 * centre_beta + mass};
}

NormalTail make_normal_tail(DType dtype, double mean, double std, double low, double high) {
  const Interval interval = standardize(mean, std, low, high);
  const double distance = -interval.beta;
  const double gap = far_tail_gap(distance, (high - low) / std);
  const auto [first, last] = values_inside(dtype, low, high);
  return {.low = first,
          .high = last,
          .near_end = interval.is_mirrored ? low : high,
          .scale = interval.is_mirrored ? -std : std,
          .flip = interval.is_mirrored ? ~uint64_t{0} : 0,
          .rest = exp_negative(gap),
          .mass = one_minus_exp(gap) * step(dtype),
          .distance = distance};
}

// ---- Filling -----------------------------------------------------------------------------------------

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

// Each of these calls use(params, kernels by dtype) for its distribution.
template <class Use> void uniform(const View& view, double low, double high, Use&& use) {
  use(make_uniform(view.dtype, low, high), random_kernels().uniform);
}

template <class Use> void normal(double mean, double std, Use&& use) {
  use(make_normal(mean, std), random_kernels().normal);
}

template <class Use>
void trunc_normal(const View& view, double mean, double std, double low, double high, Use&& use) {
  if (standardize(mean, std, low, high).beta <= -tail_begins(view.dtype)) {
    return use(make_normal_tail(view.dtype, mean, std, low, high), random_kernels().normal_tail);
  }
  const TruncNormal p = make_trunc_normal(view.dtype, mean, std, low, high);
  // An interval so narrow that its probability vanishes has a flat density.
  if (!(p.mass > 0)) return uniform(view, low, high, use);
  use(p, random_kernels().trunc_normal);
}

// What `use` is for one tensor by itself.
auto filling(const View& view, const Stream& stream, int threads) {
  return [&view, &stream, threads](const auto& params, const auto& table) {
    const int64_t count = view.count();
    if (count == 0) return;
    const Filling fill(view, stream, params, table);
    parallel_ranges(usable_threads(threads, count, kGrain), fill.units(), fill.is_direct() ? kAlign : 1,
                    [&](int64_t begin, int64_t end) { fill.run(begin, end); });
  };
}

}  // namespace

void fill_uniform(const View& view, const Stream& stream, double low, double high, int threads) {
  uniform(view, low, high, filling(view, stream, threads));
}

void fill_normal(const View& view, const Stream& stream, double mean, double std, int threads) {
  normal(mean, std, filling(view, stream, threads));
}

void fill_trunc_normal(const View& view, const Stream& stream, double mean, double std, double low, double high,
                       int threads) {
  trunc_normal(view, mean, std, low, high, filling(view, stream, threads));
}

void fill_bernoulli(const View& view, const Stream& stream, double probability, int threads) {
  if (probability <= 0 || probability >= 1) return fill_constant(view, probability, threads);
  filling(view, stream, threads)(make_bernoulli(view.dtype, probability), random_kernels().bernoulli);
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
  const auto& [a, b, c, d] = fill.parameters;
  Tasks tasks{};
  const auto use = [&](const auto& params, const auto& table) {
    const Filling filling(fill.view, fill.stream, params, table);
    tasks = {[filling](int64_t begin, int64_t end) { return filling.run_and_measure(begin, end); }, filling.units(),
             filling.is_direct() ? kChunk : kChunk / kTile};
  };
  switch (fill.distribution) {
    case Distribution::constant: {
      const auto run = [&view = fill.view, value = a](int64_t, int64_t) {
        fill_constant(view, value, 1);
        Moments moments = measure(view.data, view.dtype, 1);
        moments.count = view.count();
        return moments;
      };
      tasks = {run, 1, 1};
      break;
    }
    case Distribution::uniform: uniform(fill.view, a, b, use); break;
    case Distribution::normal: normal(a, b, use); break;
    case Distribution::trunc_normal: trunc_normal(fill.view, a, b, c, d, use); break;
  }
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
