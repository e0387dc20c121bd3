// Where activations saturate, as a list of (low, high).
#pragma once

#include <vector>

#include "python/fastcall.hpp"
#include "random/moments.hpp"

template <> inline std::vector<pyinit::Bounds> fastcall::from_python<std::vector<pyinit::Bounds>>(PyObject* x) {
  if (!PyList_Check(x)) throw py::type_error("expected a list of bounds");
  std::vector<pyinit::Bounds> all;
  all.reserve(static_cast<size_t>(PyList_GET_SIZE(x)));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(x); ++i) {
    PyObject* const one = PyList_GET_ITEM(x, i);
    all.push_back({from_python<double>(item(one, 2, 0)), from_python<double>(item(one, 2, 1))});
  }
  return all;
}
