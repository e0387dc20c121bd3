#include <pybind11/numpy.h>

#include <algorithm>
#include <cstring>

#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/target.hpp"
#include "random/torch_fill.hpp"

using namespace pyinit;

// Two states of a generator, as their addresses.
struct States {
  const unsigned char* before;
  unsigned char* after;
};

template <> inline States fastcall::from_python<States>(PyObject* x) {
  return {reinterpret_cast<const unsigned char*>(from_python<uint64_t>(item(x, 2, 0))),
          reinterpret_cast<unsigned char*>(from_python<uint64_t>(item(x, 2, 1)))};
}
template <> inline TorchArithmetic fastcall::from_python<TorchArithmetic>(PyObject* x) {
  const int code = from_python<int>(x);
  if (code < 0 || code >= kTorchArithmetics) throw std::invalid_argument("arithmetic: unknown code");
  return static_cast<TorchArithmetic>(code);
}

namespace {

// Runs `fill` on the generator whose state stands at `before`; its new state goes to `after`, which may be
// the same place. False, nothing written there, where the layout is another one or the fill gives up.
template <class Fill> bool with_generator(const Target& target, const States& states, Fill&& fill) {
  TorchGenerator generator;
  if (!read_state(states.before, generator)) return false;
  if (!on_view(target, {}, {}, kManyElements, [&](const View& v) { return fill(v, generator); })) return false;
  std::memmove(states.after, states.before, kTorchStateBytes);
  write_state(generator, states.after);
  return true;
}

bool uniform(const Target& target, double low, double high, const States& states, TorchArithmetic arithmetic,
             int threads) {
  return with_generator(target, states, [&](const View& v, TorchGenerator& g) {
    torch_uniform(v, g, low, high, arithmetic, threads);
    return true;
  });
}

bool normal(const Target& target, double mean, double std, const States& states, TorchArithmetic arithmetic,
            int threads) {
  return with_generator(target, states, [&](const View& v, TorchGenerator& g) {
    torch_normal(v, g, mean, std, arithmetic, threads);
    return true;
  });
}

bool trunc_normal(const Target& target, double mean, double std, double low, double high, const States& states,
                  TorchArithmetic arithmetic, int threads) {
  return with_generator(target, states, [&](const View& v, TorchGenerator& g) {
    return torch_trunc_normal(v, g, mean, std, low, high, arithmetic, threads);
  });
}

// `log` is torch's logarithm, from an array of doubles to one.
bool reject_trunc_normal(const Target& target, double mean, double std, double low, double high, double log_peak,
                         const States& states, TorchArithmetic arithmetic, PyObject* log, int threads) {
  const auto ask = [&](std::vector<double>& x) {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();  // a pass ends in time, all may not
    if (x.empty()) return;
    const py::array_t<double> logs = py::handle(log)(py::array_t<double>(static_cast<py::ssize_t>(x.size()), x.data()));
    if (logs.size() != static_cast<py::ssize_t>(x.size())) throw py::value_error("log: gave another number of values");
    std::copy_n(logs.data(), x.size(), x.begin());
  };
  return with_generator(target, states, [&](const View& v, TorchGenerator& g) {
    torch_reject_trunc_normal(v, g, {mean, std, low, high, log_peak}, arithmetic, ask, threads);
    return true;
  });
}

bool zero_rows(const Target& target, int64_t zeros, const States& states, int threads) {
  return with_generator(target, states, [&](const View& v, TorchGenerator& g) {
    torch_zero_rows(v, g, zeros, threads);
    return true;
  });
}

}  // namespace

void register_torch(py::module_& m) {
  m.attr("TORCH_STATE_BYTES") = kTorchStateBytes;
  m.attr("TORCH_ARITHMETICS") = kTorchArithmetics;
  m.def("torch_state_is_known", [](uint64_t state) {
    TorchGenerator generator;
    return read_state(reinterpret_cast<const unsigned char*>(state), generator);
  });
  m.def("is_same_state", [](uint64_t a, uint64_t b) {
    return std::memcmp(reinterpret_cast<const void*>(a), reinterpret_cast<const void*>(b), kTorchStateBytes) == 0;
  });
  m.def("is_dense", [](const py::tuple& shape, const py::tuple& strides) {
    return is_dense(make_view(nullptr, DType::f32, fastcall::from_python<Integers>(shape.ptr()),
                              fastcall::from_python<Integers>(strides.ptr()), {}, {}));
  });
  fastcall::define<uniform>(m, "torch_uniform");
  fastcall::define<normal>(m, "torch_normal");
  fastcall::define<trunc_normal>(m, "torch_trunc_normal");
  fastcall::define<reject_trunc_normal>(m, "torch_reject_trunc_normal");
  fastcall::define<zero_rows>(m, "torch_zero_rows");
}
