#include <vector>

#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "python/target.hpp"
#include "random/fill.hpp"
#include "random/moments.hpp"

using namespace pyinit;

// Fills as a list of (target, distribution code, (four parameters), (key, stream)).
template <> inline std::vector<Fill> fastcall::from_python<std::vector<Fill>>(PyObject* x) {
  if (!PyList_Check(x)) throw py::type_error("expected a list of fills");
  std::vector<Fill> fills;
  fills.reserve(static_cast<size_t>(PyList_GET_SIZE(x)));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(x); ++i) {
    PyObject* const one = PyList_GET_ITEM(x, i);
    const int code = from_python<int>(item(one, 4, 1));
    if (code < 0 || code > static_cast<int>(Distribution::trunc_normal)) {
      throw std::invalid_argument("distribution: unknown code");
    }
    fills.push_back({to_view(from_python<Target>(item(one, 4, 0)), {}, {}), from_python<Stream>(item(one, 4, 3)),
                     static_cast<Distribution>(code), from_python<Numbers>(item(one, 4, 2))});
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

template <> inline std::vector<Bounds> fastcall::from_python<std::vector<Bounds>>(PyObject* x) {
  if (!PyList_Check(x)) throw py::type_error("expected a list of bounds");
  std::vector<Bounds> all;
  all.reserve(static_cast<size_t>(PyList_GET_SIZE(x)));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(x); ++i) {
    PyObject* const one = PyList_GET_ITEM(x, i);
    all.push_back({from_python<double>(item(one, 2, 0)), from_python<double>(item(one, 2, 1))});
  }
  return all;
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

// (count, mean, squares, cubes, fourths, min, max, zeros, nonfinite, low, high).
py::tuple described(const Moments& m) {
  return py::make_tuple(m.count, m.mean, m.squares, m.cubes, m.fourths, m.min, m.max, m.zeros, m.nonfinite, m.low,
                        m.high);
}

py::list described(const std::vector<Moments>& all) {
  py::list list(all.size());
  for (size_t i = 0; i < all.size(); ++i) list[i] = described(all[i]);
  return list;
}

PyObject* describe_each(const std::vector<View>& views, const std::vector<Bounds>& bounds, int threads) {
  if (bounds.size() != views.size()) throw std::invalid_argument("bounds: must be as many as targets");
  return described([&] {
           const Released release;
           return describe_many(views, bounds, threads);
         }())
      .release()
      .ptr();
}

PyObject* describe_by_channel(const Target& target, int samples, int channel, double low, double high, int threads) {
  const View view = to_view(target, {}, {});
  if (samples < 0 || channel < 0) throw std::invalid_argument("samples, channel: must not be negative");
  const Channels all = [&] {
    const Released release;
    return describe_channels(view, static_cast<size_t>(samples), static_cast<size_t>(channel), {low, high}, threads);
  }();
  return py::make_tuple(described(all.channels), all.total_variance).release().ptr();
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
