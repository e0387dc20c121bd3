// Convolutions of tensors: what is asked of torch before a kernel may run, the plan of the call, the output, the
// kernel.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "core/inline_vector.hpp"
#include "python/bind.hpp"
#include "python/contractions.hpp"
#include "python/fastcall.hpp"
#include "python/target.hpp"
#include "python/tensors.hpp"
#include "python/torch_functions.hpp"

using namespace pyinit;

namespace {

enum { kImage, kWeight, kResult, kKinds };  // as in geometry.py
// The two that each of them is made of, in the order that kernels take.
constexpr std::array<std::array<size_t, 2>, kKinds> kOperands = {
    {{kResult, kWeight}, {kImage, kResult}, {kImage, kWeight}}};
constexpr const char* kPlan = "Plan";
constexpr Py_ssize_t kPlans = 4096, kNative = 3;  // kept at most; a Plan's field
constexpr Py_ssize_t kWindow = 5;                 // stride, padding, dilation, groups, output padding
constexpr size_t kDims = 5, kNumbers = 3;

// From Python, once and for all.
PyObject *plan_of_call = nullptr, *template_of = nullptr, *apply_function = nullptr;
PyObject *name_of_call = nullptr, *to_save = nullptr;
PyObject* plans = nullptr;  // by what tells calls apart; None for those that torch has to judge

py::object owned(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

// What a kernel needs besides tensors, in a capsule of the Python plan.
struct Plan {
  std::array<Integers, kKinds> shapes;
  Integers stride, padding, dilation;
  int64_t groups;
  int dtype;
  std::array<std::atomic<PyObject*>, kKinds> like{};  // (a tensor without memory of its own,), once an output needed it

  ~Plan() {
    for (const auto& each : like) Py_XDECREF(each.load());
  }
};

Plan& native(PyObject* plan) {
  if (!PyTuple_Check(plan) || PyTuple_GET_SIZE(plan) != kNative + 1) throw py::type_error("plan: takes a Plan");
  void* const found = PyCapsule_GetPointer(PyTuple_GET_ITEM(plan, kNative), kPlan);
  if (found == nullptr) throw py::error_already_set();
  return *static_cast<Plan*>(found);
}

PyObject* make_plan(PyObject* shapes, const Integers& stride, const Integers& padding, const Integers& dilation,
                    int64_t groups, int dtype) {
  auto plan = std::make_unique<Plan>();
  for (size_t i = 0; i < kKinds; ++i) {
    plan->shapes[i] = fastcall::from_python<Integers>(fastcall::item(shapes, kKinds, static_cast<Py_ssize_t>(i)));
  }
  plan->stride = stride, plan->padding = padding, plan->dilation = dilation;
  plan->groups = groups, plan->dtype = dtype;
  PyObject* const capsule =
      PyCapsule_New(plan.get(), kPlan, [](PyObject* x) { delete static_cast<Plan*>(PyCapsule_GetPointer(x, kPlan)); });
  if (capsule != nullptr) static_cast<void>(plan.release());  // the capsule deletes it
  return capsule;
}

// An output, from a tensor of its layout: to pass sizes and strides anew would take torch longer.
py::object new_output(size_t target, PyObject* python_plan, Plan& plan) {
  std::atomic<PyObject*>& like = plan.like[target];
  PyObject* arguments = like.load(std::memory_order_acquire);
  if (arguments == nullptr) {
    py::object made = py::handle(template_of)(py::handle(python_plan), target);
    // Another thread may be faster: its tensor is taken then.
    if (like.compare_exchange_strong(arguments, made.ptr())) arguments = made.release().ptr();
  }
  return torch_functions::empty_like(arguments);
}

// What ends a convolution.
struct End {
  std::optional<Target> bias;
  int activation = 0;
  double parameter = 0;
};

void check(const Plan& plan, size_t kind, const Target& tensor) {
  const Integers& shape = plan.shapes[kind];
  if (tensor.dtype != plan.dtype || !std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
    throw std::invalid_argument("a tensor of a convolution is not what its plan was made for");
  }
}

py::object run(size_t target, PyObject* python_plan, const Target& first, const Weight& second, const End& end) {
  Plan& plan = native(python_plan);
  check(plan, kOperands[target][0], first), check(plan, kOperands[target][1], second);
  py::object out = new_output(target, python_plan, plan);
  const std::optional<Target> made = memory_of(out.ptr());
  if (!made) throw std::runtime_error("torch made an output that is not in the CPU's memory");
  const int threads = torch_functions::threads();
  if (target == kWeight) {
    weight_gradient(first, second, *made, plan.stride, plan.padding, plan.dilation, plan.groups, threads);
  } else if (target == kImage) {
    convolution<true>(first, second, end.bias, *made, plan.stride, plan.padding, plan.dilation, plan.groups,
                      end.activation, end.parameter, threads);
  } else {
    convolution<false>(first, second, end.bias, *made, plan.stride, plan.padding, plan.dilation, plan.groups,
                       end.activation, end.parameter, threads);
  }
  return out;
}

// The activation: (name, code, parameter, whether its derivative follows from the output).
void end_in(PyObject* epilogue, End& end) {
  end.activation = fastcall::from_python<int>(fastcall::item(epilogue, 4, 1));
  end.parameter = fastcall::from_python<double>(fastcall::item(epilogue, 4, 2));
}

// ---- Plans by calls -------------------------------------------------------------------------------------------------

// What tells a call from all others: layouts and numbers, each list behind its length.
class Key {
 public:
  void add(int64_t value) { values_[size_++] = value; }
  template <class Values> void add_all(const Values& values) {
    for (const int64_t value : values) add(value);
  }

  // False for what only torch can judge.
  bool add_layout(const Target& tensor) {
    if (tensor.shape.size() > kDims) return false;
    add(tensor.dtype), add(std::ssize(tensor.shape)), add_all(tensor.shape), add_all(tensor.strides);
    return true;
  }
  bool add_numbers(PyObject* x) {
    if (PyLong_CheckExact(x)) return add(-1), add_integer(x);
    if (PyUnicode_Check(x)) {
      const bool same = PyUnicode_CompareWithASCIIString(x, "same") == 0;
      if (!same && PyUnicode_CompareWithASCIIString(x, "valid") != 0) return false;
      add(same ? -2 : -3);
      return true;
    }
    if (!PyTuple_Check(x) && !PyList_Check(x)) return false;
    const py::object tuple = owned(PySequence_Tuple(x));  // the same one, if it is one
    const Py_ssize_t count = PyTuple_GET_SIZE(tuple.ptr());
    if (count > static_cast<Py_ssize_t>(kNumbers)) return false;
    add(count);
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (!add_integer(PyTuple_GET_ITEM(tuple.ptr(), i))) return false;
    }
    return true;
  }

  py::bytes bytes() const { return {reinterpret_cast<const char*>(values_.data()), size_ * sizeof(int64_t)}; }

 private:
  bool add_integer(PyObject* x) {  // True is none
    int overflow = 0;
    add(PyLong_CheckExact(x) ? PyLong_AsLongLongAndOverflow(x, &overflow) : 0);
    return PyLong_CheckExact(x) && overflow == 0;
  }

  std::array<int64_t, 2 + 2 * (2 + 2 * kDims) + 2 + kWindow * (1 + kNumbers)> values_;
  size_t size_ = 0;
};

py::object found(const py::bytes& key) {
  PyObject* plan = nullptr;
#if PY_VERSION_HEX >= 0x030D0000
  const bool failed = PyDict_GetItemRef(plans, key.ptr(), &plan) < 0;
#else
  plan = Py_XNewRef(PyDict_GetItemWithError(plans, key.ptr()));
  const bool failed = plan == nullptr && PyErr_Occurred() != nullptr;
#endif
  if (failed) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(plan);
}

// The plan of a call; None where torch has to judge the arguments.
py::object plan_for(PyObject* function, const std::array<PyObject*, 3>& tensors, const Target& input,
                    const Target& weight, const std::optional<Target>& bias, PyObject* window) {
  Key key;
  for (const Py_ssize_t i : {0, 1}) key.add(fastcall::from_python<int64_t>(fastcall::item(function, 3, i)));
  bool is_known = key.add_layout(input) && key.add_layout(weight);
  key.add(bias ? bias->dtype : -1), key.add(bias ? bias->shape[0] : 0);
  for (Py_ssize_t i = 0; i < kWindow; ++i) is_known = is_known && key.add_numbers(fastcall::item(window, kWindow, i));
  if (!is_known) return py::none();
  const py::bytes bytes = key.bytes();
  if (py::object plan = found(bytes)) return plan;
  const std::array arguments = {function, tensors[0], tensors[1], tensors[2], window};
  py::object plan = owned(PyObject_Vectorcall(plan_of_call, arguments.data(), arguments.size(), nullptr));
  if (PyDict_Size(plans) >= kPlans) PyDict_Clear(plans);
  if (PyDict_SetItem(plans, bytes.ptr(), plan.ptr()) < 0) throw py::error_already_set();
  return plan;
}

// ---- What Python calls ----------------------------------------------------------------------------------------------

bool is_watched(fastcall::Arguments tensors) { return torch_functions::is_watched(tensors); }

size_t target_of(int target) {
  if (target < 0 || target >= kKinds) throw std::invalid_argument("target: unknown");
  return static_cast<size_t>(target);
}

// An output on its way through Function.apply, which calls `forward` and takes long over arguments that are no tensors.
struct Recorded {
  const py::object &out, &call, &saved;
};
thread_local const Recorded* recorded = nullptr;

class Recording {
 public:
  explicit Recording(const Recorded& now) : before_(std::exchange(recorded, &now)) {}
  ~Recording() { recorded = before_; }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

 private:
  const Recorded* before_;  // finalizers and profilers may convolve, too
};

// The output as autograd's: a function of the tensors, which are the two operands and perhaps a bias.
py::object differentiable(size_t target, PyObject* plan, PyObject* epilogue, const py::object& out,
                          fastcall::Arguments tensors) {
  const py::object number = owned(PyLong_FromSize_t(target)),
                   call = owned(PyTuple_Pack(3, number.ptr(), plan, epilogue));
  const py::object saved = owned(epilogue == Py_None ? PyTuple_Pack(2, tensors[0], tensors[1])
                                                     : PyTuple_Pack(3, tensors[0], tensors[1], out.ptr()));
  const Recorded now{out, call, saved};
  const Recording recording(now);
  return owned(PyObject_Vectorcall(apply_function, tensors.data(), tensors.size(), nullptr));
}

PyObject* forward(fastcall::Arguments arguments) {
  if (recorded == nullptr || arguments.empty()) throw std::runtime_error("only a convolution records its output");
  const Recorded& now = *std::exchange(recorded, nullptr);
  if (PyObject_SetAttr(arguments[0], name_of_call, now.call.ptr()) < 0 ||
      PyObject_SetAttr(arguments[0], to_save, now.saved.ptr()) < 0) {
    throw py::error_already_set();
  }
  return Py_NewRef(now.out.ptr());
}

bool is_image(const Target& x) {
  const bool is_float = x.dtype == static_cast<int>(DType::f32) || x.dtype == static_cast<int>(DType::f64);
  return is_float && x.shape.size() >= 3 && x.shape.size() <= kDims;
}

bool is_dense_row(const Target& x) { return x.shape.size() == 1 && (x.strides[0] == 1 || x.shape[0] == 1); }

PyObject* convolution_of(PyObject* function, PyObject* input, PyObject* weight, PyObject* bias, PyObject* window,
                         PyObject* epilogue, PyObject* packed) {
  const std::array all = {input, weight, bias};
  const fastcall::Arguments tensors(all.data(), bias == Py_None ? 2 : 3);
  if (!torch_functions::is_plain(weight)) Py_RETURN_NONE;  // a packed one, most often
  if (torch_functions::is_watched(tensors)) Py_RETURN_NONE;
  const std::optional<Target> x = readable(input), w = memory_of(weight);
  if (!x || !w) Py_RETURN_NONE;
  End end;
  if (bias != Py_None) {
    end.bias = readable(bias);
    if (!end.bias || !is_dense_row(*end.bias)) Py_RETURN_NONE;
  }
  const py::object plan = plan_for(function, all, *x, *w, end.bias, window);
  if (plan.is_none()) Py_RETURN_NONE;
  const size_t target = target_of(fastcall::from_python<int>(fastcall::item(function, 3, 1)));
  const bool is_differentiated = torch_functions::is_differentiated(tensors);
  const bool is_fused = epilogue != Py_None && (!is_differentiated || fastcall::item(epilogue, 4, 3) == Py_True);
  if (is_fused) end_in(epilogue, end);
  Weight second{*w};
  const py::object panels = packed == Py_None ? py::none() : py::object(py::handle(packed).attr("panels")(plan));
  if (!panels.is_none()) {
    second.packed = static_cast<const PackedWeight*>(PyCapsule_GetPointer(panels.ptr(), kPackedWeight));
    if (second.packed == nullptr) throw py::error_already_set();
  }
  py::object out = run(target, plan.ptr(), *x, second, end);
  if (is_differentiated) out = differentiable(target, plan.ptr(), is_fused ? epilogue : Py_None, out, tensors);
  if (epilogue != Py_None && !is_fused) out = py::handle(epilogue).attr("apply")(out);
  return out.release().ptr();
}

PyObject* contraction(int target, PyObject* plan, PyObject* first, PyObject* second) {
  const std::array tensors = {first, second};
  if (torch_functions::is_watched(tensors)) Py_RETURN_NONE;
  const std::optional<Target> one = readable(first), other = readable(second);
  if (!one || !other) Py_RETURN_NONE;
  py::object out = run(target_of(target), plan, *one, Weight{*other}, {});
  if (torch_functions::is_differentiated(tensors)) {
    out = differentiable(target_of(target), plan, Py_None, out, tensors);
  }
  return out.release().ptr();
}

PyObject* contracted(int target, PyObject* plan, PyObject* first, PyObject* second) {
  const std::optional<Target> one = readable(first), other = readable(second);
  if (!one || !other) Py_RETURN_NONE;
  return run(target_of(target), plan, *one, Weight{*other}, {}).release().ptr();
}

PyObject* sums_of_channels(PyObject* images) {
  const std::array tensors = {images};
  if (torch_functions::is_watched(tensors)) Py_RETURN_NONE;
  const std::optional<Target> x = readable(images);
  if (!x || !is_image(*x) || torch_functions::is_differentiated(tensors)) Py_RETURN_NONE;
  const py::object out = py::handle(images).attr("new_empty")(x->shape[1]);
  const std::optional<Target> made = memory_of(out.ptr());
  if (!made) throw std::runtime_error("torch made an output that is not in the CPU's memory");
  channel_sums(*x, *made, torch_functions::threads());
  return py::object(out).release().ptr();
}

}  // namespace

void register_conv_calls(py::module_& m) {
  name_of_call = owned(PyUnicode_InternFromString("call")).release().ptr();
  to_save = owned(PyUnicode_InternFromString("to_save")).release().ptr();
  plans = owned(PyDict_New()).release().ptr();
  m.attr("convolution_plans") = py::handle(plans);
  m.def("set_convolution_functions", [](const py::function& of_call, const py::function& like, const py::object& by) {
    plan_of_call = of_call.inc_ref().ptr(), template_of = like.inc_ref().ptr(), apply_function = by.inc_ref().ptr();
  });
  fastcall::define<is_watched>(m, "is_watched");
  fastcall::define<make_plan>(m, "ConvolutionPlan");
  fastcall::define<convolution_of>(m, "convolution");
  fastcall::define<forward>(m, "record_convolution");
  fastcall::define<contraction>(m, "contraction");
  fastcall::define<contracted>(m, "contracted");
  fastcall::define<sums_of_channels>(m, "channel_sums");
}
