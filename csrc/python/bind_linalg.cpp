#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "core/view.hpp"
#include "linalg/gemm.hpp"
#include "linalg/kernels.hpp"
#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "python/target.hpp"

using namespace pyinit;

namespace {

std::string text(const Integers& values) {
  std::string out = "(";
  for (const int64_t value : values) {
    if (out.size() > 1) out.append(", ");
    out.append(std::to_string(value));
  }
  return out.append(")");
}

[[noreturn]] void refuse(const std::string& what, const std::string& got, const std::string& takes) {
  throw std::invalid_argument(what + ": got " + got + ", takes " + takes);
}

void check_dtype(const char* name, int got) {
  if (got == static_cast<int>(DType::f32) || got == static_cast<int>(DType::f64)) return;
  refuse(std::string(name) + ": dtype", "code " + std::to_string(got), "FLOAT32 or FLOAT64");
}

// One more dimension in front where there is no batch.
struct Operand {
  int64_t batch, rows, columns;
  Matrices<char> layout;

  Operand(const char* name, const Target& t) : layout{reinterpret_cast<char*>(t.address), 0, 0, 0} {
    check_dtype(name, t.dtype);
    const size_t dims = t.shape.size();
    if (dims != 2 && dims != 3) refuse(std::string(name) + ": shape", text(t.shape), "2 or 3 dimensions");
    if (t.strides.size() != dims) refuse(std::string(name) + ": strides", text(t.strides), "one per dimension");
    for (const int64_t size : t.shape) {
      if (size < 0) refuse(std::string(name) + ": shape", text(t.shape), "no negative size");
    }
    batch = dims == 3 ? t.shape[0] : 1;
    rows = t.shape[dims - 2];
    columns = t.shape[dims - 1];
    layout.matrix = dims == 3 ? t.strides[0] : 0;
    layout.row = t.strides[dims - 2];
    layout.column = t.strides[dims - 1];
  }

  template <class T> Matrices<T> matrices() const {
    return {reinterpret_cast<T*>(layout.data), layout.matrix, layout.row, layout.column};
  }
};

Integers product_shape(const Target& a, const Operand& x, const Operand& y) {
  return a.shape.size() == 3 ? Integers{x.batch, x.rows, y.columns} : Integers{x.rows, y.columns};
}

bool same(const Integers& a, const Integers& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

void product(const Target& a, const Target& b, const Target& c, double alpha, double beta, int threads) {
  const Operand x("a", a), y("b", b), z("c", c);
  for (const auto& [name, other] : {std::pair{"b", &b}, {"c", &c}}) {
    if (other->dtype != a.dtype) {
      refuse(std::string(name) + ": dtype", "code " + std::to_string(other->dtype),
             "that of a, code " + std::to_string(a.dtype));
    }
  }
  if (b.shape.size() != a.shape.size() || y.batch != x.batch || y.rows != x.columns) {
    refuse("b: shape", text(b.shape), "one that a's " + text(a.shape) + " can be multiplied by");
  }
  if (const Integers wanted = product_shape(a, x, y); !same(c.shape, wanted)) {
    refuse("c: shape", text(c.shape), text(wanted));
  }
  if (!non_overlapping(c.shape, c.strides)) refuse("c: strides", text(c.strides), "elements that do not overlap");

  const ProductSize size = {x.batch, x.rows, y.columns, x.columns};
  const double work = static_cast<double>(size.batch) * static_cast<double>(size.m) * static_cast<double>(size.n) *
                      static_cast<double>(size.k);
  const auto release = release_if(work > kManyProducts);
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    gemm<T>(size, static_cast<T>(alpha), x.matrices<const T>(), y.matrices<const T>(), static_cast<T>(beta),
            z.matrices<T>(), threads);
  };
  if (a.dtype == static_cast<int>(DType::f32)) {
    run(float{});
  } else {
    run(double{});
  }
}

int64_t multiply_adds(int dtype, int64_t rounds) {
  check_dtype("dtype", dtype);
  const Released release;
  return dtype == static_cast<int>(DType::f32) ? panel_kernels<float>().multiply_adds(rounds)
                                               : panel_kernels<double>().multiply_adds(rounds);
}

}  // namespace

void register_linalg(py::module_& m) {
  fastcall::define<product>(m, "gemm");
  m.def("multiply_adds", &multiply_adds, py::arg("dtype"), py::arg("rounds"));
}
