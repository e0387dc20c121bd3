#include <iterator>
#include <optional>

#include "core/dtype.hpp"
#include "core/view.hpp"
#include "python/bind.hpp"
#include "python/dlpack.hpp"
#include "python/fastcall.hpp"
#include "python/tensors.hpp"
#include "python/torch_functions.hpp"

using namespace pyinit;

namespace {

const dlpack::ExchangeApi* exchange_api = nullptr;
PyObject* find_readable = nullptr;  // asked instead, for a torch without that interface

std::optional<DType> dtype_of(dlpack::DataType t) {
  if (t.lanes != 1) return std::nullopt;
  if (t.code == dlpack::kBfloat && t.bits == 16) return DType::bf16;
  if (t.code != dlpack::kFloat) return std::nullopt;
  switch (t.bits) {
    case 16: return DType::f16;
    case 32: return DType::f32;
    case 64: return DType::f64;
    default: return std::nullopt;
  }
}

PyObject* tuple_of(const Integers& values) {
  PyObject* const tuple = PyTuple_New(static_cast<Py_ssize_t>(values.size()));
  for (size_t i = 0; tuple != nullptr && i < values.size(); ++i) {
    PyObject* const value = PyLong_FromLongLong(values[i]);
    if (value == nullptr) {
      Py_DECREF(tuple);
      return nullptr;
    }
    PyTuple_SET_ITEM(tuple, static_cast<Py_ssize_t>(i), value);
  }
  return tuple;
}

int64_t count_of(const dlpack::Tensor& t) {
  int64_t count = 1;
  for (int32_t i = 0; i < t.ndim; ++i) count *= t.shape[i];
  return count;
}

// The tensor, if it lies in this process's memory, and its dtype.
std::optional<DType> exchange(PyObject* object, dlpack::Tensor& t) {
  if (exchange_api == nullptr || exchange_api->tensor_from_object(object, &t) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  if (t.device.type != dlpack::kCpu || t.ndim > static_cast<int32_t>(kMaxDims)) return std::nullopt;
  // A zero tensor of automatic differentiation has elements and no memory.
  if (t.data == nullptr && count_of(t) > 0) return std::nullopt;
  return dtype_of(t.dtype);
}

PyStructSequence_Field fields[] = {{"address", "of the first element"},
                                   {"dtype", "FLOAT16, BFLOAT16, FLOAT32 or FLOAT64"},
                                   {"shape", "a size for each dimension"},
                                   {"strides", "the distance, in elements, along each dimension"},
                                   {nullptr, nullptr}};
PyStructSequence_Desc description = {"pyinit._core.View", "Where a tensor lies in memory.", fields, 4};
PyTypeObject* view_type = nullptr;
PyObject* unit_stride = nullptr;  // (1,), which nearly every target has

// Takes over the references to shape and strides, which may be null.
PyObject* view_of(const dlpack::Tensor& t, DType dtype, PyObject* shape, PyObject* strides) {
  const uint64_t address = reinterpret_cast<uintptr_t>(t.data) + t.byte_offset;
  PyObject* const values[] = {PyLong_FromUnsignedLongLong(address), PyLong_FromLong(static_cast<long>(dtype)), shape,
                              strides};
  PyObject* const view = PyStructSequence_New(view_type);
  bool is_whole = view != nullptr;
  for (Py_ssize_t i = 0; i < std::ssize(values); ++i) {
    is_whole = is_whole && values[i] != nullptr;
    if (view != nullptr) {
      PyStructSequence_SET_ITEM(view, i, values[i]);
    } else {
      Py_XDECREF(values[i]);
    }
  }
  if (is_whole) return view;
  Py_XDECREF(view);
  return nullptr;
}

// Whether DeepSpeed's ZeRO-3 has left an empty tensor in the place of a parameter that it has partitioned.
bool is_placeholder(PyObject* object, const dlpack::Tensor& t) {
  return t.ndim == 1 && t.shape[0] == 0 && PyObject_HasAttrString(object, "ds_shape") != 0;
}

// Whether the elements follow each other in memory.
bool is_dense(const dlpack::Tensor& t) {
  if (count_of(t) == 0) return true;
  int64_t dense = 1;
  for (int32_t i = t.ndim; i-- > 0;) {
    if (t.shape[i] != 1 && t.strides[i] != dense) return false;
    dense *= t.shape[i];
  }
  return true;
}

// The view with the tensor's own shape and strides; None where it is not memory that a kernel can read.
PyObject* memory(PyObject* object) {
  dlpack::Tensor t;
  const std::optional<DType> dtype = exchange(object, t);
  if (!dtype) Py_RETURN_NONE;
  Integers shape, strides;
  for (int32_t i = 0; i < t.ndim; ++i) {
    shape.push_back(t.shape[i]);
    strides.push_back(t.strides[i]);
  }
  return view_of(t, *dtype, tuple_of(shape), tuple_of(strides));
}

}  // namespace

bool may_have_more_elements(PyObject* tensor, int64_t than) {
  if (exchange_api == nullptr) return true;
  dlpack::Tensor t;
  if (exchange_api->tensor_from_object(tensor, &t) != 0) {
    PyErr_Clear();
    return true;
  }
  return count_of(t) > than;
}

PyObject* target(PyObject* object) {
  dlpack::Tensor t;
  const std::optional<DType> dtype = exchange(object, t);
  if (!dtype || is_placeholder(object, t)) Py_RETURN_NONE;
  Integers shape, strides;
  if (is_dense(t)) {
    shape.push_back(count_of(t));
    return view_of(t, *dtype, tuple_of(shape), Py_NewRef(unit_stride));
  }
  for (int32_t i = 0; i < t.ndim; ++i) {
    shape.push_back(t.shape[i]);
    strides.push_back(t.strides[i]);
  }
  if (!non_overlapping(shape, strides)) Py_RETURN_NONE;
  return view_of(t, *dtype, tuple_of(shape), tuple_of(strides));
}

std::optional<View> dense_target(PyObject* tensor) {
  dlpack::Tensor t;
  const std::optional<DType> dtype = exchange(tensor, t);
  if (!dtype || is_placeholder(tensor, t) || !is_dense(t)) return std::nullopt;
  Integers shape, strides;
  shape.push_back(count_of(t));
  strides.push_back(1);
  return make_view(static_cast<char*>(t.data) + t.byte_offset, *dtype, shape, strides, {}, {});
}

std::optional<Target> memory_of(PyObject* tensor) {
  if (find_readable != nullptr) {
    const auto view = py::reinterpret_steal<py::object>(PyObject_CallOneArg(find_readable, tensor));
    if (!view) throw py::error_already_set();
    return view.is_none() ? std::nullopt : std::optional(fastcall::from_python<Target>(view.ptr()));
  }
  dlpack::Tensor t;
  const std::optional<DType> dtype = exchange(tensor, t);
  if (!dtype) return std::nullopt;
  Target memory{reinterpret_cast<uintptr_t>(t.data) + t.byte_offset, static_cast<int>(*dtype), {}, {}};
  for (int32_t i = 0; i < t.ndim; ++i) memory.shape.push_back(t.shape[i]), memory.strides.push_back(t.strides[i]);
  return memory;
}

std::optional<Target> readable(PyObject* tensor) {
  return torch_functions::is_plain(tensor) ? memory_of(tensor) : std::nullopt;
}

void register_tensor(py::module_& m) {
  view_type = PyStructSequence_NewType(&description);
  unit_stride = Py_BuildValue("(i)", 1);
  if (view_type == nullptr || unit_stride == nullptr) throw py::error_already_set();
  m.attr("View") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(view_type));
  m.def("set_exchange_api", [](const py::capsule& capsule) {
    const auto* api =
        static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::kCapsuleName));
    if (api == nullptr) throw py::error_already_set();
    while (api != nullptr && api->version.major != dlpack::kMajorVersion) api = api->previous;
    exchange_api = api;
    return api != nullptr;
  });
  m.def("set_find_readable",
        [](const py::object& find) { find_readable = find.is_none() ? nullptr : find.inc_ref().ptr(); });
  fastcall::define<memory>(m, "dlpack_memory");
  fastcall::define<target>(m, "dlpack_target");
}
