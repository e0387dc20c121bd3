#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "python/target.hpp"
#include "transfer/copy.hpp"
#include "transfer/digest.hpp"

using namespace pyinit;

namespace {

bool copied(uint64_t from, const Target& target, int threads) {
  const View view = to_view(target, {}, {});
  if (!is_dense(view)) throw std::invalid_argument("target: must be dense");
  const Released release;
  return copy_checked(reinterpret_cast<const void*>(from), view.data, view.dtype, view.count(), threads);
}

PyObject* digested(const Target& source, int threads) {
  if (source.dtype < 0 || source.dtype >= kDTypes) throw std::invalid_argument("dtype: unknown code");
  const View view = make_view(reinterpret_cast<char*>(source.address), static_cast<DType>(source.dtype), source.shape,
                              source.strides, {}, {});
  if (!is_dense(view)) Py_RETURN_NONE;
  const auto made = [&] {
    const Released release;
    return digest(view.data, view.count() * size_of(view.dtype), threads);
  }();
  return PyLong_FromUnsignedLongLong(made);
}

}  // namespace

void register_transfer(py::module_& m) {
  fastcall::define<copied>(m, "copy_checked");
  fastcall::define<digested>(m, "digest");
}
