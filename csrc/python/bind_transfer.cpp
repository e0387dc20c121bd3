#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "python/target.hpp"
#include "transfer/copy.hpp"

using namespace pyinit;

namespace {

bool copied(uint64_t from, const Target& target, int threads) {
  const View view = to_view(target, {}, {});
  if (!is_dense(view)) throw std::invalid_argument("target: must be dense");
  const Released release;
  return copy_checked(reinterpret_cast<const void*>(from), view.data, view.dtype, view.count(), threads);
}

}  // namespace

void register_transfer(py::module_& m) { fastcall::define<copied>(m, "copy_checked"); }
