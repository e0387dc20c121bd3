#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/target.hpp"
#include "random/torch_func.hpp"

using namespace pyinit;

// How torch rounds, as Python numbers the ways: those by vectors before those by the C library.
constexpr int kTorchFuncArithmetics = 4;

template <> inline TorchFuncKey fastcall::from_python<TorchFuncKey>(PyObject* x) {
  return {from_python<uint64_t>(item(x, 2, 0)), from_python<uint64_t>(item(x, 2, 1))};
}
template <> inline TorchFuncArithmetic fastcall::from_python<TorchFuncArithmetic>(PyObject* x) {
  const int code = from_python<int>(x);
  if (code < 0 || code >= kTorchFuncArithmetics) throw std::invalid_argument("arithmetic: unknown code");
  return {.is_fused = code % 2 == 1, .is_by_libm = code / 2 == 1};
}

namespace {

constexpr int64_t kManyTorchFunc = 1024;  // elements from which on other threads may run meanwhile

void torch_func_uniform_at(const Target& target, double low, double high, const TorchFuncKey& key,
                           TorchFuncArithmetic arithmetic, int threads, const Block& whole, const Block& start) {
  on_view(target, whole, start, kManyTorchFunc,
          [&](const View& v) { torch_func_uniform(v, key, low, high, arithmetic, threads); });
}

void torch_func_normal_at(const Target& target, double mean, double std, const TorchFuncKey& key,
                          TorchFuncArithmetic arithmetic, int threads, const Block& whole, const Block& start) {
  on_view(target, whole, start, kManyTorchFunc,
          [&](const View& v) { torch_func_normal(v, key, mean, std, arithmetic, threads); });
}

}  // namespace

void register_torch_func(py::module_& m) {
  m.attr("TORCH_FUNC_ARITHMETICS") = kTorchFuncArithmetics;
  fastcall::define<torch_func_uniform_at>(m, "torch_func_uniform");
  fastcall::define<torch_func_normal_at>(m, "torch_func_normal");
  m.def("torch_func_matches_libm", torch_func_matches_libm);
}
