#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <variant>

#include "conv/convolution.hpp"
#include "conv/packed_weights.hpp"
#include "conv/winograd_weights.hpp"
#include "core/view.hpp"
#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/images.hpp"
#include "python/released.hpp"
#include "python/target.hpp"

using namespace pyinit;

// What Python keeps between calls, in a capsule of that name.
using PackedWeight = std::variant<PackedWeights<float>, PackedWeights<double>, WinogradWeights>;
constexpr const char* kPackedWeight = "PackedWeight";

// A weight, alone or paired with the same one packed.
struct Weight : Target {
  const PackedWeight* packed = nullptr;
};

template <> inline Weight fastcall::from_python<Weight>(PyObject* x) {
  if (!PyTuple_Check(x) || PyTuple_GET_SIZE(x) != 2) return {from_python<Target>(x)};
  const void* const packed = PyCapsule_GetPointer(item(x, 2, 1), kPackedWeight);
  if (packed == nullptr) throw py::error_already_set();
  return {from_python<Target>(item(x, 2, 0)), static_cast<const PackedWeight*>(packed)};
}

template <> inline std::optional<Target> fastcall::from_python<std::optional<Target>>(PyObject* x) {
  if (x == Py_None) return std::nullopt;
  return from_python<Target>(x);
}

namespace {

// Python has compared sizes and types; what would lead astray here is looked at once more.
void check(const char* name, const Target& t, const Target& like) {
  const bool is_float = t.dtype == static_cast<int>(DType::f32) || t.dtype == static_cast<int>(DType::f64);
  const size_t dims = t.shape.size();
  if (!is_float || t.dtype != like.dtype || dims < 3 || dims > 2 + kSpatial || dims != like.shape.size() ||
      t.strides.size() != dims) {
    throw std::invalid_argument(std::string(name) + ": takes float32 or float64, and 3 to 5 dimensions, as the others");
  }
}

double work(const Target& pixels, const Target& weight) {
  double count = 1;
  for (size_t i = 2; i < pixels.shape.size(); ++i) count *= static_cast<double>(pixels.shape[i]);
  count *= static_cast<double>(pixels.shape[0]);
  for (const int64_t size : weight.shape) count *= static_cast<double>(size);
  return count;
}

Window window_of(const Target& t, const Integers& stride, const Integers& padding, const Integers& dilation,
                 int64_t groups) {
  const size_t dims = t.shape.size() - 2;
  return {to_extents(stride, dims, 1), to_extents(padding, dims, 0), to_extents(dilation, dims, 1), groups};
}

template <bool transposed>
void convolution(const Target& input, const std::conditional_t<transposed, Target, Weight>& weight,
                 const std::optional<Target>& bias, const Target& output, const Integers& stride,
                 const Integers& padding, const Integers& dilation, int64_t groups, int activation, double parameter,
                 int threads) {
  check("input", input, input), check("weight", weight, input), check("output", output, input);
  if (activation < 0 || activation >= kActivations) throw std::invalid_argument("activation: unknown code");
  const Window window = window_of(input, stride, padding, dilation, groups);
  const auto release = release_if(work(transposed ? input : output, weight) > kManyProducts);
  on_type(input, [&](auto zero) {
    using T = decltype(zero);
    const Epilogue<T> epilogue = {bias ? reinterpret_cast<const T*>(bias->address) : nullptr,
                                  static_cast<Activation>(activation), static_cast<T>(parameter)};
    const Images<const T> from = to_images<const T>(input), filters = to_images<const T>(weight);
    if constexpr (transposed) {
      convolve_transposed(window, from, filters, epilogue, to_images<T>(output), threads);
    } else {
      Packed<T> packed;
      if (weight.packed != nullptr) {
        packed = {std::get_if<PackedWeights<T>>(weight.packed), std::get_if<WinogradWeights>(weight.packed)};
      }
      convolve(window, from, filters, epilogue, to_images<T>(output), threads, packed);
    }
  });
}

std::unique_ptr<PackedWeight> packed(const Target& weight, int64_t groups, int threads, Packing packing) {
  const Released release;
  std::unique_ptr<PackedWeight> made;
  on_type(weight, [&](auto zero) {
    using T = decltype(zero);
    const Images<const T> filters = to_images<const T>(weight);
    if constexpr (std::is_same_v<T, float>) {
      if (packing == Packing::points) {
        made = std::make_unique<PackedWeight>(WinogradWeights(filters, groups, threads));
        return;
      }
    }
    made = std::make_unique<PackedWeight>(PackedWeights<T>(filters, groups, threads));
  });
  return made;
}

PyObject* packing(const Target& input, const Target& weight, const Target& output, const Integers& stride,
                  const Integers& padding, const Integers& dilation, int64_t groups) {
  check("input", input, input), check("weight", weight, input), check("output", output, input);
  const Window window = window_of(input, stride, padding, dilation, groups);
  Packing found = Packing::none;
  on_type(input, [&](auto zero) {
    using T = decltype(zero);
    found = packing_of<T>(window, to_images<const T>(input), to_images<const T>(weight), to_images<T>(output));
  });
  return PyLong_FromLong(static_cast<int>(found));
}

PyObject* pack(const Target& weight, int64_t groups, int threads, int packing) {
  check("weight", weight, weight);
  if (groups < 1 || weight.shape[0] % groups != 0)
    throw std::invalid_argument("groups: takes a divisor of the outputs");
  for (const int64_t size : weight.shape) {
    if (size < 1) throw std::invalid_argument("weight: takes no size below 1");
  }
  const Packing kind = static_cast<Packing>(packing);
  const bool has_points =
      weight.dtype == static_cast<int>(DType::f32) && to_images<const float>(weight).size == Extents{1, 3, 3};
  if (kind != Packing::panels && !(kind == Packing::points && has_points)) {
    throw std::invalid_argument("packing: takes panels, or points of 3 x 3 float32 taps");
  }
  std::unique_ptr<PackedWeight> panels = packed(weight, groups, threads, kind);
  PyObject* const capsule = PyCapsule_New(panels.get(), kPackedWeight, [](PyObject* x) {
    delete static_cast<PackedWeight*>(PyCapsule_GetPointer(x, kPackedWeight));
  });
  if (capsule != nullptr) static_cast<void>(panels.release());  // the capsule deletes it
  return capsule;
}

void weight_gradient(const Target& input, const Target& output, const Target& weight, const Integers& stride,
                     const Integers& padding, const Integers& dilation, int64_t groups, int threads) {
  check("input", input, input), check("weight", weight, input), check("output", output, input);
  const Window window = window_of(input, stride, padding, dilation, groups);
  const auto release = release_if(work(output, weight) > kManyProducts);
  on_type(input, [&](auto zero) {
    using T = decltype(zero);
    convolve_weight_gradient<T>(window, to_images<const T>(input), to_images<const T>(output), to_images<T>(weight),
                                threads);
  });
}

void channel_sums(const Target& input, const Target& sums, int threads) {
  check("input", input, input);
  if (sums.dtype != input.dtype || sums.shape.size() != 1 || sums.shape[0] != input.shape[1]) {
    throw std::invalid_argument("sums: takes one element for each channel, of input's type");
  }
  const Released release;
  on_type(input, [&](auto zero) {
    using T = decltype(zero);
    sum_channels<T>(to_images<const T>(input), reinterpret_cast<T*>(sums.address), sums.strides[0], threads);
  });
}

}  // namespace

void register_conv(py::module_& m) {
  fastcall::define<packing>(m, "packing");
  fastcall::define<pack>(m, "PackedWeight");
  m.def("set_winograd", &set_winograd, py::arg("is_used"));
  m.def("winograd", &winograd);
  fastcall::define<convolution<false>>(m, "convolve");
  fastcall::define<convolution<true>>(m, "convolve_transposed");
  fastcall::define<weight_gradient>(m, "convolve_weight_gradient");
  fastcall::define<channel_sums>(m, "sum_channels");
}
