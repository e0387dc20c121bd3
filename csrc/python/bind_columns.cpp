#include <optional>

#include "python/bind.hpp"
#include "python/columns.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "python/target.hpp"

using namespace pyinit;

namespace {

template <bool transposed>
void run(const Target& from, const Target& to, const Integers& kernel, const Integers& places, const Integers& stride,
         const Integers& padding, const Integers& dilation, int threads) {
  const Target &images = transposed ? to : from, &columns = transposed ? from : to;
  check_columns(images, columns, kernel, places, stride);
  const size_t dims = images.shape.size() - 2;
  const Window window = to_window(stride, padding, dilation, dims);
  to_view(to, std::nullopt, std::nullopt);  // asks for huge pages
  const auto release = release_if(product(columns.shape) > kManyElements);
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
