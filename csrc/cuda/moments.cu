#include "cuda/moments.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/integers.hpp"
#include "cuda/runtime.hpp"
#include "cuda/table.hpp"
#include "simd/math.hpp"

namespace pyinit::cuda {
namespace {

constexpr int kThreads = 128;
// Threads of a group take turns, side by side: thread j the items j, kGroup + j, ... of the group's kGroup kRun.
constexpr int64_t kGroup = 32;
constexpr int64_t kRun = 64;

// As pyinit::Moments, of some values; min is NaN where they have no moments.
struct Part {
  double count, mean, squares, min, max;
};

// Of `count` items at `from`, values or parts, to parts or results.
struct Step {
  const char* from;
  char* to;
  int64_t count;
  int64_t first_block;
};

struct Table {
  static constexpr int kMost = static_cast<int>(kTableBytes / sizeof(Step));
  int count = 0;
  Step steps[kMost];
};

// Of what a step leaves.
constexpr int64_t parts_of(int64_t items) { return divide_up(items, kGroup * kRun) * kGroup; }

template <class T> struct Value {
  using Type = T;
  PYINIT_METHOD static T of(T x) { return x; }
};
template <> struct Value<Half> {
  using Type = float;
  PYINIT_METHOD static float of(Half x) { return from_half(u32(uint32_t{x.bits} << 16)).v; }
};
template <> struct Value<BFloat16> {
  using Type = float;
  PYINIT_METHOD static float of(BFloat16 x) { return from_bits(u32(uint32_t{x.bits} << 16)).v; }
};

PYINIT_INLINE bool is_finite(double x) { return subtract(x, x) == 0; }

// Chan, Golub & LeVeque 1979.
PYINIT_INLINE Part merged(const Part& a, const Part& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  const double n = add(a.count, b.count), share = divide(b.count, n), shift = subtract(b.mean, a.mean);
  const double between = multiply(multiply(shift, shift), multiply(a.count, share));
  const double min = a.min < b.min ? a.min : b.min, max = a.max > b.max ? a.max : b.max;
  const bool is_nan = a.min != a.min || b.min != b.min;
  return {n, fused(shift, share, a.mean), add(add(a.squares, b.squares), between), is_nan ? NAN : min, max};
}

// By distances from the first: a run of equal values has no squares.
struct MeasureRun {
  template <class T> PYINIT_METHOD static Part of(const T* from, int64_t count) {
    using S = typename Value<T>::Type;
    const S first = Value<T>::of(from[0]);
    S sum = 0, squares = 0, low = first, high = first;
#pragma unroll 8
    for (int64_t i = 0; i < count; ++i) {
      const S x = Value<T>::of(from[i * kGroup]), distance = subtract(x, first);
      sum = add(sum, distance);
      squares = fused(distance, distance, squares);
      low = x < low ? x : low;
      high = x > high ? x : high;
    }
    const double n = static_cast<double>(count), total = static_cast<double>(sum), offset = divide(total, n);
    const double all = fused(-total, offset, static_cast<double>(squares));
    return {n, add(static_cast<double>(first), offset), all > 0 ? all : 0,
            is_finite(all) ? static_cast<double>(low) : NAN, static_cast<double>(high)};
  }
};

struct MergeRun {
  PYINIT_METHOD static Part of(const Part* from, int64_t count) {
    Part all = from[0];
    for (int64_t i = 1; i < count; ++i) all = merged(all, from[i * kGroup]);
    return all;
  }
};

// A part of each thread's run.
template <class Run, class T> __global__ void reduce(const Table table) {
  const Step& step = table.steps[entry_at(blockIdx.x, table.count, [&](int i) { return table.steps[i].first_block; })];
  const int64_t thread =
      (static_cast<int64_t>(blockIdx.x) - step.first_block) * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (thread >= parts_of(step.count)) return;
  const int64_t first = thread / kGroup * (kGroup * kRun) + thread % kGroup;
  Part part{};
  if (first < step.count) {
    const int64_t left = (step.count - first + kGroup - 1) / kGroup;
    part = Run::of(reinterpret_cast<const T*>(step.from) + first, left < kRun ? left : kRun);
  }
  reinterpret_cast<Part*>(step.to)[thread] = part;
}

// The results of a group's parts.
__global__ void finish(const Table table) {
  if (threadIdx.x != 0) return;
  const Step& step = table.steps[blockIdx.x];
  const Part* const parts = reinterpret_cast<const Part*>(step.from);
  Part all = parts[0];
  for (int64_t i = 1; i < step.count; ++i) all = merged(all, parts[i]);
  const double std = root(divide(all.squares, all.count));
  const bool is_nan = all.min != all.min || !is_finite(std);
  double* const to = reinterpret_cast<double*>(step.to);
  to[0] = is_nan ? NAN : all.mean;
  to[1] = is_nan ? NAN : std;
  to[2] = is_nan ? NAN : all.min;
  to[3] = is_nan ? NAN : all.max;
}

// Launches of as many steps as a table holds, each with the blocks that it needs.
template <class Kernel, class Blocks>
void launch_all(Kernel kernel, const std::vector<Step>& steps, int threads, const Queue& queue, Blocks blocks_of) {
  for (size_t begin = 0; begin < steps.size(); begin += Table::kMost) {
    Table table;
    int64_t blocks = 0;
    for (size_t i = begin; i < std::min(steps.size(), begin + Table::kMost); ++i) {
      Step& step = table.steps[table.count++] = steps[i];
      step.first_block = blocks;
      blocks += blocks_of(step.count);
    }
    launch(kernel, blocks, threads, queue, table);
  }
}

template <class Run, class T> void reduce_all(const std::vector<Step>& steps, const Queue& queue) {
  const int threads = threads_of_block(kThreads);
  launch_all(reduce<Run, T>, steps, threads, queue, [&](int64_t items) { return divide_up(parts_of(items), threads); });
}

}  // namespace

int64_t moments_scratch(const std::vector<View>& views) {
  int64_t parts = 0;
  for (const View& view : views) {
    int64_t items = view.count();
    do {
      items = parts_of(items);
      parts += items;
    } while (items > kGroup);
  }
  return parts * static_cast<int64_t>(sizeof(Part));
}

void measure_many(const std::vector<View>& views, char* scratch, double* out, const Queue& queue) {
  for (const View& view : views) {
    if (view.count() == 0) throw std::invalid_argument("target: must not be empty");
    if (!is_dense(view)) throw std::invalid_argument("target: must be dense");
  }
  std::vector<Step> steps(views.size()), some;
  // Adds a step to those of a launch, and makes of it the one that comes next.
  const auto take = [&](Step& step) {
    step.to = scratch;
    some.push_back(step);
    step = {scratch, nullptr, parts_of(step.count), 0};
    scratch += step.count * static_cast<int64_t>(sizeof(Part));
  };
  for (int dtype = 0; dtype < kDTypes; ++dtype) {
    some.clear();
    for (size_t i = 0; i < views.size(); ++i) {
      if (static_cast<int>(views[i].dtype) != dtype) continue;
      steps[i] = {views[i].data, nullptr, views[i].count(), 0};
      take(steps[i]);
    }
    visit(static_cast<DType>(dtype), [&](auto zero) { reduce_all<MeasureRun, decltype(zero)>(some, queue); });
  }
  do {
    some.clear();
    for (Step& step : steps) {
      if (step.count > kGroup) take(step);
    }
    reduce_all<MergeRun, Part>(some, queue);
  } while (!some.empty());
  for (size_t i = 0; i < steps.size(); ++i) steps[i].to = reinterpret_cast<char*>(out + 4 * i);
  launch_all(finish, steps, 1, queue, [](int64_t) { return int64_t{1}; });
}

}  // namespace pyinit::cuda
