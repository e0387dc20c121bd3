#include <algorithm>
#include <array>
#include <string>

#include "python/bind.hpp"
#include "python/tensors.hpp"

namespace {

constexpr int kFlags = METH_VARARGS | METH_KEYWORDS;

// A method of tensors that stands in for one of torch's.
struct Method {
  PyCFunctionWithKeywords original = nullptr;
  PyObject* large = nullptr;
  int64_t small = 0;
  std::array<PyObject*, 2> plain{};
  std::string name;
  PyMethodDef definition{};
};
std::array<Method, 2> methods;  // a definition has no room for what it stands in for

bool goes_to_large(const Method& method, PyObject* self) {
  const auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(self));
  return (type == method.plain[0] || type == method.plain[1]) && may_have_more_elements(self, method.small);
}

// The arguments go on to torch as they came, which costs a small fill next to nothing.
template <size_t i> PyObject* call(PyObject* self, PyObject* args, PyObject* keywords) {
  const Method& method = methods[i];
  if (!goes_to_large(method, self)) return method.original(self, args, keywords);
  PyObject* const all = PyTuple_New(PyTuple_GET_SIZE(args) + 1);
  if (all == nullptr) return nullptr;
  PyTuple_SET_ITEM(all, 0, Py_NewRef(self));
  for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(args); ++k) {
    PyTuple_SET_ITEM(all, k + 1, Py_NewRef(PyTuple_GET_ITEM(args, k)));
  }
  PyObject* const result = PyObject_Call(method.large, all, keywords);
  Py_DECREF(all);
  return result;
}

constexpr std::array<PyCFunctionWithKeywords, 2> calls{call<0>, call<1>};

py::object method_of(const py::type& type, const py::handle& original, const py::object& large, int64_t small,
                     const py::type& plain, const py::type& also_plain) {
  if (!Py_IS_TYPE(original.ptr(), &PyMethodDescr_Type)) return py::none();
  const PyMethodDef& torchs = *reinterpret_cast<PyMethodDescrObject*>(original.ptr())->d_method;
  const auto method = std::find_if(methods.begin(), methods.end(), [](const Method& m) { return m.large == nullptr; });
  if (torchs.ml_flags != kFlags || method == methods.end()) return py::none();
  method->original = reinterpret_cast<PyCFunctionWithKeywords>(reinterpret_cast<void (*)()>(torchs.ml_meth));
  method->large = large.inc_ref().ptr();
  method->small = small;
  method->plain = {plain.inc_ref().ptr(), also_plain.inc_ref().ptr()};
  method->name = torchs.ml_name;
  const auto entry = reinterpret_cast<void (*)()>(calls[static_cast<size_t>(method - methods.begin())]);
  method->definition = {method->name.c_str(), reinterpret_cast<PyCFunction>(entry), kFlags, torchs.ml_doc};
  PyObject* const made = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &method->definition);
  if (made == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(made);
}

}  // namespace

void register_method(py::module_& m) { m.def("method_of", &method_of); }
