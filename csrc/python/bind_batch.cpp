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
    const auto distribution = from_python<Distribution>(item(one, 4, 1));
    if (distribution == Distribution::bernoulli) throw std::invalid_argument("distribution: unknown code");
    fills.push_back({to_view(from_python<Target>(item(one, 4, 0)), {}, {}), from_python<Stream>(item(one, 4, 3)),
                     distribution, from_python<Numbers>(item(one, 4, 2))});
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
}
