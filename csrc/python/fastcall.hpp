// Functions that Python calls once per tensor, positional arguments only: pybind11's own argument
// handling costs more than a small fill does.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "core/inline_vector.hpp"

namespace fastcall {

namespace py = pybind11;

// From a Python object to the parameter's type; throws with the Python error set.
template <class T> T from_python(PyObject* x);

inline void check_error(bool is_suspicious) {
  if (is_suspicious && PyErr_Occurred() != nullptr) throw py::error_already_set();
}
template <> inline double from_python<double>(PyObject* x) {
  const double value = PyFloat_AsDouble(x);
  check_error(value == -1.0);
  return value;
}
template <> inline PyObject* from_python<PyObject*>(PyObject* x) { return x; }
template <> inline int64_t from_python<int64_t>(PyObject* x) {
  const long long value = PyLong_AsLongLong(x);
  check_error(value == -1);
  return value;
}
template <> inline int from_python<int>(PyObject* x) {
  const int64_t value = from_python<int64_t>(x);
  if (value != static_cast<int>(value)) throw std::invalid_argument("integer argument out of range");
  return static_cast<int>(value);
}
template <> inline uint64_t from_python<uint64_t>(PyObject* x) {
  const unsigned long long value = PyLong_AsUnsignedLongLong(x);
  check_error(value == ~0ULL);
  return value;
}
using pyinit::Integers;
// Item i of a tuple of `count` things.
inline PyObject* item(PyObject* x, Py_ssize_t count, Py_ssize_t i) {
  if (!PyTuple_Check(x) || PyTuple_GET_SIZE(x) != count) throw py::type_error("expected a tuple of another length");
  return PyTuple_GET_ITEM(x, i);
}
template <> inline Integers from_python<Integers>(PyObject* x) {
  if (!PyTuple_Check(x)) throw py::type_error("expected a tuple of integers");
  Integers out;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(x); ++i) out.push_back(from_python<int64_t>(PyTuple_GET_ITEM(x, i)));
  return out;
}
template <> inline std::optional<Integers> from_python<std::optional<Integers>>(PyObject* x) {
  if (x == Py_None) return std::nullopt;
  return from_python<Integers>(x);
}

template <class T> constexpr bool is_optional = false;
template <class T> constexpr bool is_optional<std::optional<T>> = true;

template <class Result, class... Parameters, size_t... i>
Result call_with(Result (*function)(Parameters...), PyObject* const* args, Py_ssize_t count,
                 std::index_sequence<i...>) {
  constexpr Py_ssize_t kMost = sizeof...(Parameters);
  constexpr Py_ssize_t kLeast = kMost - (Py_ssize_t{is_optional<std::decay_t<Parameters>>} + ... + 0);
  if (count < kLeast || count > kMost) throw py::type_error("wrong number of arguments");
  return function(from_python<std::decay_t<Parameters>>(static_cast<Py_ssize_t>(i) < count ? args[i] : Py_None)...);
}

// Any number of arguments, as they came.
using Arguments = std::span<PyObject* const>;

template <auto function> struct Entry;
template <class Result, class... Parameters, Result (*function)(Parameters...)> struct Entry<function> {
  static PyObject* call(PyObject*, PyObject* const* args, Py_ssize_t count) {
    try {
      const auto run = [&] {
        if constexpr (std::is_same_v<std::tuple<Parameters...>, std::tuple<Arguments>>) {
          return function(Arguments(args, static_cast<size_t>(count)));
        } else {
          return call_with(function, args, count, std::index_sequence_for<Parameters...>{});
        }
      };
      if constexpr (std::is_same_v<Result, bool>) {
        return PyBool_FromLong(run());
      } else if constexpr (std::is_same_v<Result, double>) {
        return PyFloat_FromDouble(run());
      } else if constexpr (std::is_same_v<Result, PyObject*>) {
        return run();
      } else {
        run();
        Py_RETURN_NONE;
      }
    } catch (py::error_already_set& e) {
      e.restore();
    } catch (const py::builtin_exception& e) {
      e.set_error();
    } catch (const std::invalid_argument& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
    } catch (const std::exception& e) {
      PyErr_SetString(PyExc_RuntimeError, e.what());
    }
    return nullptr;
  }
};

// Adds `function` to the module. Its name must live as long as the module: a literal.
template <auto function> void define(py::module_& m, const char* name) {
  static PyMethodDef definition{};
  definition.ml_name = name;
  definition.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&Entry<function>::call));
  definition.ml_flags = METH_FASTCALL;
  PyObject* const object = PyCFunction_NewEx(&definition, nullptr, m.attr("__name__").ptr());
  if (object == nullptr) throw py::error_already_set();
  m.attr(name) = py::reinterpret_steal<py::object>(object);
}

}  // namespace fastcall
