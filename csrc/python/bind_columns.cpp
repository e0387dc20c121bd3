#include <optional>
#include <stdexcept>

#include "conv/columns.hpp"
#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/images.hpp"
#include "python/target.hpp"

using namespace pyinit;

namespace {

constexpr int64_t kReleaseGil = 1 << 14;  // elements from which on other threads may run meanwhile

int64_t product(const Integers& values) {
  int64_t all = 1;
  for (const int64_t value : values) all *= value;
  return all;
}

// Python has compared everything with torch's rules; what would lead astray here is looked at once more.
void check(const Target& images, const Target& columns, const Integers& kernel, const Integers& places,
           const Integers& stride) {
  const bool is_float = images.dtype == static_cast<int>(DType::f32) || images.dtype == static_cast<int>(DType::f64);
  if (!is_float || columns.dtype != images.dtype) {
    throw std::invalid_argument("dtype: takes float32 or float64, the same of both");
  }
  const size_t dims = images.shape.size();
  if (dims < 3 || dims > 2 + kSpatial || images.strides.size() != dims) {
    throw std::invalid_argument("images: takes 3 to 5 dimensions");
  }
  for (const int64_t step : stride) {
    if (step < 1) throw std::invalid_argument("stride: takes numbers from 1 on");
  }
  if (columns.shape.size() != 3 || columns.strides.size() != 3 || columns.shape[0] != images.shape[0] ||
      columns.shape[1] != images.shape[1] * product(kernel) || columns.shape[2] != product(places)) {
    throw std::invalid_argument("columns: takes (batch, channels times taps, places)");
  }
}

template <class T> Columns<T> to_columns(const Target& t, const Integers& kernel, const Integers& places, size_t dims) {
  return {reinterpret_cast<T*>(t.address),
          to_extents(kernel, dims, 1),
          to_extents(places, dims, 1),
          t.strides[0],
          t.strides[1],
          t.strides[2]};
}

template <bool transposed>
void run(const Target& from, const Target& to, const Integers& kernel, const Integers& places, const Integers& stride,
         const Integers& padding, const Integers& dilation, int threads) {
  const Target &images = transposed ? to : from, &columns = transposed ? from : to;
  check(images, columns, kernel, places, stride);
  const size_t dims = images.shape.size() - 2;
  const Window window = {to_extents(stride, dims, 1), to_extents(padding, dims, 0), to_extents(dilation, dims, 1), 1};
  to_view(to, std::nullopt, std::nullopt);  // asks for huge pages
  const std::optional<py::gil_scoped_release> release =
      product(columns.shape) > kReleaseGil ? std::optional<py::gil_scoped_release>(std::in_place) : std::nullopt;
  on_type(images, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (transposed) {
      col2im<T>(window, to_columns<const T>(columns, kernel, places, dims), to_images<T>(images), threads);
    } else {
      im2col<T>(window, to_images<const T>(images), to_columns<T>(columns, kernel, places, dims), threads);
    }
  });
}

}  // namespace

void register_columns(py::module_& m) {
  fastcall::define<run<false>>(m, "im2col");
  fastcall::define<run<true>>(m, "col2im");
}
