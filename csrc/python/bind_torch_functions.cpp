#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/torch_functions.hpp"

namespace torch_functions {
namespace {

// Of torch's, or of pyinit's `_torch`: they live as long as the process.
struct {
  PyObject *tensor, *parameter, *is_neg, *requires_grad;
  PyObject *dispatch_modes, *transform, *is_tracing, *is_any_autocast_enabled, *is_autocast_enabled,
      *forward_derivatives, *has_torch_function, *is_overridden;
  PyObject *is_grad_enabled, *get_num_threads, *empty_like;
} torchs{};
PyObject *cpu = nullptr, *current_level = nullptr;

py::object owned(PyObject* result) {
  if (result == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

py::object call(PyObject* function) { return owned(PyObject_CallNoArgs(function)); }

// What a property or a method without arguments says of a tensor of torch's own: to look it up takes longer than to
// ask.
bool ask(PyObject* descriptor, PyObject* tensor) {
  PyObject* answer = nullptr;
  if (Py_IS_TYPE(descriptor, &PyGetSetDescr_Type)) {
    const PyGetSetDef& property = *reinterpret_cast<PyGetSetDescrObject*>(descriptor)->d_getset;
    answer = property.get(tensor, property.closure);
  } else {
    answer = PyObject_CallOneArg(descriptor, tensor);
  }
  return owned(answer).ptr() == Py_True;
}

// Of forward-mode differentiation; below 0 outside of any.
int64_t level() {
  PyObject* found = nullptr;
#if PY_VERSION_HEX >= 0x030D0000
  if (PyDict_GetItemRef(torchs.forward_derivatives, current_level, &found) < 0) throw py::error_already_set();
#else
  found = Py_XNewRef(PyDict_GetItemWithError(torchs.forward_derivatives, current_level));
#endif
  if (found == nullptr) throw py::key_error("_current_level");
  return fastcall::from_python<int64_t>(owned(found).ptr());
}

bool has_type_of_torchs(PyObject* object) {
  auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  return type == torchs.tensor || type == torchs.parameter;
}

}  // namespace

bool is_watched(fastcall::Arguments objects) {
  return fastcall::from_python<int64_t>(call(torchs.dispatch_modes).ptr()) != 0 || !call(torchs.transform).is_none() ||
         call(torchs.is_tracing).ptr() == Py_True || level() >= 0 ||
         (call(torchs.is_any_autocast_enabled).ptr() == Py_True &&
          owned(PyObject_CallOneArg(torchs.is_autocast_enabled, cpu)).ptr() == Py_True) ||
         (owned(PyObject_Vectorcall(torchs.has_torch_function, objects.data(), objects.size(), nullptr)).ptr() ==
              Py_True &&
          owned(PyObject_Vectorcall(torchs.is_overridden, objects.data(), objects.size(), nullptr)).ptr() == Py_True);
}

bool is_plain(PyObject* tensor) { return has_type_of_torchs(tensor) && !ask(torchs.is_neg, tensor); }

bool is_differentiated(fastcall::Arguments tensors) {
  return call(torchs.is_grad_enabled).ptr() == Py_True &&
         std::any_of(tensors.begin(), tensors.end(), [](PyObject* x) { return ask(torchs.requires_grad, x); });
}

int threads() { return fastcall::from_python<int>(call(torchs.get_num_threads).ptr()); }

py::object empty_like(PyObject* arguments) { return owned(PyObject_Call(torchs.empty_like, arguments, nullptr)); }

}  // namespace torch_functions

void register_torch_functions(py::module_& m) {
  using namespace torch_functions;
  cpu = PyUnicode_InternFromString("cpu"), current_level = PyUnicode_InternFromString("_current_level");
  if (cpu == nullptr || current_level == nullptr) throw py::error_already_set();
  m.def("set_torch_functions", [](const py::kwargs& given) {
    const std::map<std::string, PyObject**> places{
        {"tensor", &torchs.tensor},
        {"parameter", &torchs.parameter},
        {"is_neg", &torchs.is_neg},
        {"requires_grad", &torchs.requires_grad},
        {"dispatch_modes", &torchs.dispatch_modes},
        {"transform", &torchs.transform},
        {"is_tracing", &torchs.is_tracing},
        {"is_any_autocast_enabled", &torchs.is_any_autocast_enabled},
        {"is_autocast_enabled", &torchs.is_autocast_enabled},
        {"forward_derivatives", &torchs.forward_derivatives},
        {"has_torch_function", &torchs.has_torch_function},
        {"is_overridden", &torchs.is_overridden},
        {"is_grad_enabled", &torchs.is_grad_enabled},
        {"get_num_threads", &torchs.get_num_threads},
        {"empty_like", &torchs.empty_like},
    };
    for (const auto& [name, function] : given) {
      const auto place = places.find(py::cast<std::string>(name));
      if (place == places.end()) throw py::key_error(py::cast<std::string>(name));
      Py_XDECREF(std::exchange(*place->second, Py_NewRef(function.ptr())));
    }
  });
}
