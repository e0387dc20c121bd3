// The module of CUDA kernels; or, with PYINIT_CUDA_EMULATION, of the same kernels on the CPU, for tests.
#include <vector>

#include "cuda/columns.hpp"
#include "cuda/fill.hpp"
#include "cuda/moments.hpp"
#include "cuda/sparse.hpp"
#include "python/bind.hpp"
#include "python/bounds.hpp"
#include "python/columns.hpp"
#include "python/fastcall.hpp"
#include "python/target.hpp"
#if defined(PYINIT_CUDA_EMULATION)
#include "cuda/runtime.hpp"
#endif

using namespace pyinit;

template <> inline Queue fastcall::from_python<Queue>(PyObject* x) {
  return {from_python<int>(item(x, 2, 0)), from_python<uint64_t>(item(x, 2, 1))};
}

// The view of a target or of a block of a larger tensor.
static View device_view(PyObject* target, PyObject* whole, PyObject* start) {
  using namespace fastcall;
  const Target t = from_python<Target>(target);
  if (t.dtype < 0 || t.dtype >= kDTypes) throw std::invalid_argument("dtype: unknown code");
  return make_view(reinterpret_cast<char*>(t.address), static_cast<DType>(t.dtype), t.shape, t.strides,
                   from_python<Block>(whole).value_or(Integers{}), from_python<Block>(start).value_or(Integers{}));
}

template <> inline std::vector<View> fastcall::from_python<std::vector<View>>(PyObject* x) {
  if (!PyList_Check(x)) throw py::type_error("expected a list of targets");
  std::vector<View> views;
  views.reserve(static_cast<size_t>(PyList_GET_SIZE(x)));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(x); ++i) {
    views.push_back(device_view(PyList_GET_ITEM(x, i), Py_None, Py_None));
  }
  return views;
}

// Fills as a list of (target, distribution code, (four numbers), (key, stream), whole, start).
template <> inline std::vector<cuda::DeviceFill> fastcall::from_python<std::vector<cuda::DeviceFill>>(PyObject* x) {
  if (!PyList_Check(x)) throw py::type_error("expected a list of fills");
  std::vector<cuda::DeviceFill> fills;
  fills.reserve(static_cast<size_t>(PyList_GET_SIZE(x)));
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(x); ++i) {
    PyObject* const one = PyList_GET_ITEM(x, i);
    fills.push_back({device_view(item(one, 6, 0), item(one, 6, 4), item(one, 6, 5)),
                     from_python<Stream>(item(one, 6, 3)), from_python<Distribution>(item(one, 6, 1)),
                     from_python<Numbers>(item(one, 6, 2))});
  }
  return fills;
}

namespace {

bool can_fill(PyObject* target) { return cuda::can_fill(device_view(target, Py_None, Py_None)); }

void fill(const std::vector<cuda::DeviceFill>& fills, const Queue& queue) {
  const py::gil_scoped_release release;
  cuda::fill_many(fills, queue);
}

void sparse(PyObject* target, int64_t zeros, double std, const Stream& stream, const Queue& queue) {
  const View view = device_view(target, Py_None, Py_None);
  const py::gil_scoped_release release;
  cuda::fill_sparse(view, stream, zeros, std, queue);
}

PyObject* scratch_of_each(const std::vector<View>& targets) {
  return PyLong_FromLongLong(cuda::describe_many_scratch(targets));
}

void describe_each(const std::vector<View>& targets, const std::vector<Bounds>& bounds, uint64_t scratch, uint64_t out,
                   const Queue& queue) {
  if (bounds.size() != targets.size()) throw std::invalid_argument("bounds: must be as many as targets");
  const py::gil_scoped_release release;
  cuda::describe_many(targets, bounds, reinterpret_cast<char*>(scratch), reinterpret_cast<double*>(out), queue);
}

PyObject* scratch_of_channels(PyObject* target, uint64_t samples, uint64_t channel) {
  return PyLong_FromLongLong(cuda::describe_channels_scratch(device_view(target, Py_None, Py_None), samples, channel));
}

void describe_by_channel(PyObject* target, uint64_t samples, uint64_t channel, double low, double high,
                         uint64_t scratch, uint64_t out, const Queue& queue) {
  const View view = device_view(target, Py_None, Py_None);
  const py::gil_scoped_release release;
  cuda::describe_channels(view, samples, channel, {low, high}, reinterpret_cast<char*>(scratch),
                          reinterpret_cast<double*>(out), queue);
}

// im2col, or transposed col2im.
template <bool transposed>
void columns(const Target& from, const Target& to, const Integers& kernel, const Integers& places,
             const Integers& stride, const Integers& padding, const Integers& dilation, const Queue& queue) {
  const Target &images = transposed ? to : from, &columns = transposed ? from : to;
  check_columns(images, columns, kernel, places, stride);
  const size_t dims = images.shape.size() - 2;
  const Window window = to_window(stride, padding, dilation, dims);
  const py::gil_scoped_release release;
  on_type(images, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (transposed) {
      cuda::col2im<T>(window, to_columns<const T>(columns, kernel, places, dims), to_images<T>(images), queue);
    } else {
      cuda::im2col<T>(window, to_images<const T>(images), to_columns<T>(columns, kernel, places, dims), queue);
    }
  });
}

#if defined(PYINIT_CUDA_EMULATION)
void set_threads(int threads) { emulation::chosen_threads = threads; }
#endif

}  // namespace

PYBIND11_MODULE(PYINIT_CUDA_MODULE, m, py::mod_gil_not_used()) {
#if defined(PYINIT_CUDA_EMULATION)
  m.attr("BUILD") = "emulation";
  fastcall::define<set_threads>(m, "set_threads");  // of a block; 0: as on a device
#else
  m.attr("BUILD") = PYINIT_CUDA_BUILD;
#endif
  fastcall::define<can_fill>(m, "can_fill");
  fastcall::define<fill>(m, "fill_many");
  fastcall::define<sparse>(m, "fill_sparse");
  fastcall::define<scratch_of_each>(m, "describe_many_scratch");
  fastcall::define<describe_each>(m, "describe_many");
  fastcall::define<scratch_of_channels>(m, "describe_channels_scratch");
  fastcall::define<describe_by_channel>(m, "describe_channels");
  fastcall::define<columns<false>>(m, "im2col");
  fastcall::define<columns<true>>(m, "col2im");
}
