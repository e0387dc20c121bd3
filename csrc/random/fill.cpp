#include "random/fill.hpp"

#include <algorithm>
#include <functional>

#include "core/parallel.hpp"
#include "random/filling.hpp"
#include "random/kernels.hpp"
#include "random/structured.hpp"

namespace pyinit {

namespace {

const Generate<Uniform> (&kernels_of(const Uniform&))[kDTypes] { return random_kernels().uniform; }
const Generate<Normal> (&kernels_of(const Normal&))[kDTypes] { return random_kernels().normal; }
const Generate<RedrawnNormal> (&kernels_of(const RedrawnNormal&))[kDTypes] { return random_kernels().redrawn_normal; }
const Generate<TruncNormal> (&kernels_of(const TruncNormal&))[kDTypes] { return random_kernels().trunc_normal; }
const Generate<NormalTail> (&kernels_of(const NormalTail&))[kDTypes] { return random_kernels().normal_tail; }
const Generate<Bernoulli> (&kernels_of(const Bernoulli&))[kDTypes] { return random_kernels().bernoulli; }

void fill_alone(const View& view, const Stream& stream, Distribution distribution, const Numbers& numbers,
                int threads) {
  if (view.count() == 0) return;
  with_parameters(distribution, view.dtype, numbers,
                  [&](const auto& params) { fill_by(kernels_of(params), view, stream, params, threads); });
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
  steps.run(usable_threads(threads, work, kFillGrain));
  std::vector<Moments> all(fills.size());
  for (const Task& t : tasks) all[t.fill] = all[t.fill] + t.moments;
  return all;
}

}  // namespace pyinit
