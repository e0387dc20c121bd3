#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/target.hpp"
#include "random/fill.hpp"
#include "random/structured.hpp"

using namespace pyinit;

namespace {

constexpr int64_t kManyRandoms = 1024;  // elements from which on other threads may run meanwhile

void uniform(const Target& target, double low, double high, const Stream& stream, int threads, const Block& whole,
             const Block& start) {
  on_view(target, whole, start, kManyRandoms, [&](const View& v) { fill_uniform(v, stream, low, high, threads); });
}

void normal(const Target& target, double mean, double std, const Stream& stream, int threads, const Block& whole,
            const Block& start) {
  on_view(target, whole, start, kManyRandoms, [&](const View& v) { fill_normal(v, stream, mean, std, threads); });
}

void trunc_normal(const Target& target, double mean, double std, double low, double high, const Stream& stream,
                  int threads, const Block& whole, const Block& start) {
  on_view(target, whole, start, kManyRandoms,
          [&](const View& v) { fill_trunc_normal(v, stream, mean, std, low, high, threads); });
}

void trunc_normal_v1(const Target& target, double mean, double std, double low, double high, const Stream& stream,
                     int threads, const Block& whole, const Block& start) {
  on_view(target, whole, start, kManyRandoms,
          [&](const View& v) { fill_trunc_normal_v1(v, stream, mean, std, low, high, threads); });
}

void bernoulli(const Target& target, double probability, const Stream& stream, int threads, const Block& whole,
               const Block& start) {
  on_view(target, whole, start, kManyRandoms, [&](const View& v) { fill_bernoulli(v, stream, probability, threads); });
}

void constant(const Target& target, double value, int threads) {
  on_view(target, {}, {}, kManyRandoms, [&](const View& v) { fill_constant(v, value, threads); });
}

void dirac(const Target& target, int64_t groups, int threads) {
  on_view(target, {}, {}, kManyRandoms, [&](const View& v) { fill_dirac(v, groups, threads); });
}

void sparse(const Target& target, int64_t zeros, double std, const Stream& stream, int threads) {
  on_view(target, {}, {}, kManyRandoms, [&](const View& v) { fill_sparse(v, stream, zeros, std, threads); });
}

}  // namespace

void register_random(py::module_& m) {
  m.attr("FLOAT16") = static_cast<int>(DType::f16);
  m.attr("BFLOAT16") = static_cast<int>(DType::bf16);
  m.attr("FLOAT32") = static_cast<int>(DType::f32);
  m.attr("FLOAT64") = static_cast<int>(DType::f64);

  fastcall::define<uniform>(m, "fill_uniform");
  fastcall::define<normal>(m, "fill_normal");
  fastcall::define<trunc_normal>(m, "fill_trunc_normal");
  fastcall::define<trunc_normal_v1>(m, "fill_trunc_normal_v1");
  fastcall::define<bernoulli>(m, "fill_bernoulli");
  fastcall::define<constant>(m, "fill_constant");
  fastcall::define<dirac>(m, "fill_dirac");
  fastcall::define<sparse>(m, "fill_sparse");

  m.def("non_overlapping", [](const py::tuple& shape, const py::tuple& strides) {
    return non_overlapping(fastcall::from_python<Integers>(shape.ptr()),
                           fastcall::from_python<Integers>(strides.ptr()));
  });
  m.def(
      "philox4x32",
      [](const philox::Block& counter, const std::array<uint32_t, 2>& key) {
        return py::tuple(py::cast(philox::block(counter, key)));
      },
      py::arg("counter"), py::arg("key"));
  m.def(
      "philox_words",
      [](uint64_t key, uint64_t stream, uint64_t start, int64_t count) {
        py::array_t<uint32_t> words(count);
        for (int64_t i = 0; i < count; ++i) {
          const uint64_t index = start + static_cast<uint64_t>(i);
          words.mutable_at(i) = philox::block({key, stream}, index / 4)[index % 4];
        }
        return words;
      },
      py::arg("key"), py::arg("stream"), py::arg("start"), py::arg("count"));
}
