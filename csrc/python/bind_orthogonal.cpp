#include <vector>

#include "linalg/orthogonal.hpp"
#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "python/target.hpp"

using namespace pyinit;

// Matrices as a list of (target, gain, (key, stream), whole, start).
template <> inline std::vector<Orthogonal> fastcall::from_python<std::vector<Orthogonal>>(PyObject* x) {
  if (!PyList_Check(x)) throw py::type_error("expected a list of matrices");
  std::vector<Orthogonal> matrices;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(x); ++i) {
    PyObject* const one = PyList_GET_ITEM(x, i);
    matrices.push_back({to_view(from_python<Target>(item(one, 5, 0)), from_python<Block>(item(one, 5, 3)),
                                from_python<Block>(item(one, 5, 4))),
                        from_python<Stream>(item(one, 5, 2)), from_python<double>(item(one, 5, 1))});
  }
  return matrices;
}

namespace {

void orthogonal(const std::vector<Orthogonal>& matrices, int threads) {
  const Released release;
  fill_orthogonal(matrices, threads);
}

// `matrix` is an address.
void orthonormalized(const Target& target, uint64_t matrix, double gain, int threads) {
  const View view = to_view(target, {}, {});
  const Released release;
  fill_orthonormalized(view, reinterpret_cast<const void*>(matrix), gain, threads);
}

}  // namespace

void register_orthogonal(py::module_& m) {
  fastcall::define<orthogonal>(m, "fill_orthogonal");
  fastcall::define<orthonormalized>(m, "fill_orthonormalized");
}
