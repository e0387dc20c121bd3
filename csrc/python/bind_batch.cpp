#include <algorithm>
#include <vector>

#include "python/bind.hpp"
#include "python/bounds.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "python/target.hpp"
#include "random/fill.hpp"
#include "random/moments.hpp"

using namespace pyinit;

// Fills as a list of (target, distribution code, (four parameters), (key, stream), whole, start).
template <> inline std::vector<Fill> fastcall::from_python<std::vector<Fill>>(PyObject* x) {
  if (!PyList_Check(x)) throw py::type_error("expected a list of fills");
  std::vector<Fill> fills;
  fills.reserve(static_cast<size_t>(PyList_GET_SIZE(x)));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(x); ++i) {
    PyObject* const one = PyList_GET_ITEM(x, i);
    const auto distribution = from_python<Distribution>(item(one, 6, 1));
    if (distribution == Distribution::bernoulli) throw std::invalid_argument("distribution: unknown code");
    const View view = to_view(from_python<Target>(item(one, 6, 0)), from_python<Block>(item(one, 6, 4)),
                              from_python<Block>(item(one, 6, 5)));
    fills.push_back({view, from_python<Stream>(item(one, 6, 3)), distribution, from_python<Numbers>(item(one, 6, 2))});
  }
  return fills;
}

template <> inline std::vector<View> fastcall::from_python<std::vector<View>>(PyObject* x) {
  if (!PyList_Check(x)) throw py::type_error("expected a list of targets");
  std::vector<View> views;
  views.reserve(static_cast<size_t>(PyList_GET_SIZE(x)));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(x); ++i) {
    views.push_back(to_view(from_python<Target>(PyList_GET_ITEM(x, i)), {}, {}));
  }
  return views;
}

namespace {

// A list of (mean, std, min, max); None for a tensor without elements.
PyObject* to_python(const std::vector<Moments>& all) {
  py::list list(all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const Moments& m = all[i];
    list[i] = m.count == 0 ? py::object(py::none()) : py::make_tuple(m.mean, m.std(), m.min, m.max);
  }
  return list.release().ptr();
}

PyObject* many(const std::vector<Fill>& fills, int threads) {
  return to_python([&] {
    const Released release;
    return fill_many(fills, threads);
  }());
}

constexpr int64_t kStatistics = 11;

// count, mean, squares, cubes, fourths, min, max, zeros, nonfinite, low, high.
void put(const std::vector<Moments>& all, double* to) {
  for (const Moments& m : all) {
    const double row[kStatistics] = {static_cast<double>(m.count),
                                     m.mean,
                                     m.squares,
                                     m.cubes,
                                     m.fourths,
                                     m.min,
                                     m.max,
                                     static_cast<double>(m.zeros),
                                     static_cast<double>(m.nonfinite),
                                     static_cast<double>(m.low),
                                     static_cast<double>(m.high)};
    to = std::copy(row, row + kStatistics, to);
  }
}

// The rows that `to` has place for, as doubles side by side.
double* place_for(const Target& to, size_t rows) {
  const View view = to_view(to, {}, {});
  if (view.dtype != DType::f64 || !is_dense(view) || view.count() != kStatistics * static_cast<int64_t>(rows)) {
    throw std::invalid_argument("out: must be dense float64 with a row of 11 for each");
  }
  return reinterpret_cast<double*>(view.data);
}

void describe_each(const std::vector<View>& views, const std::vector<Bounds>& bounds, const Target& out, int threads) {
  if (bounds.size() != views.size()) throw std::invalid_argument("bounds: must be as many as targets");
  double* const to = place_for(out, views.size());
  const Released release;
  put(describe_many(views, bounds, threads), to);
}

double describe_by_channel(const Target& target, int samples, int channel, double low, double high, const Target& out,
                           int threads) {
  const View view = to_view(target, {}, {});
  if (samples < 0 || channel < 0 || channel >= std::ssize(target.shape)) {
    throw std::invalid_argument("channel: must be a dimension behind the samples'");
  }
  double* const to = place_for(out, static_cast<size_t>(target.shape[static_cast<size_t>(channel)]));
  const Released release;
  const Channels all =
      describe_channels(view, static_cast<size_t>(samples), static_cast<size_t>(channel), {low, high}, threads);
  put(all.channels, to);
  return all.total_variance;
}

PyObject* measured(const std::vector<View>& views, int threads) {
  return to_python([&] {
    const Released release;
    return measure_many(views, threads);
  }());
}

}  // namespace

void register_batch(py::module_& m) {
  fastcall::define<many>(m, "fill_many");
  fastcall::define<measured>(m, "measure_many");
  fastcall::define<describe_each>(m, "describe_many");
  fastcall::define<describe_by_channel>(m, "describe_channels");
}
