// What the fills with torch's own numbers share: element types and their lanes, memory in the order in which torch
// visits it, rounding and uniforms.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "core/view.hpp"
#include "random/torch_fill.hpp"
#include "random/torch_kernels.hpp"

namespace pyinit::torch_stream {

constexpr int64_t kGrain = 1 << 15;  // elements that are worth a thread
constexpr int64_t kBatch = 512;      // elements made at a time in a buffer

template <class T> using Lane = std::conditional_t<sizeof(T) == 8, double, float>;
template <class T> constexpr int64_t kWordsPerElement = sizeof(T) == 8 ? 2 : 1;
template <class T> constexpr bool kIsHalf = sizeof(T) == 2;
template <class T> constexpr DType kDType = DType::f32;
template <> inline constexpr DType kDType<Half> = DType::f16;
template <> inline constexpr DType kDType<BFloat16> = DType::bf16;
template <> inline constexpr DType kDType<double> = DType::f64;

// Whether torch would take the elements in its blocks of 16, if there are that many.
inline bool is_contiguous(const View& view) { return is_one_run(coalesce(view).dims); }

// The elements of a view in the order of memory, as torch's serial loops visit them.
template <class T> class Elements {
 public:
  explicit Elements(const View& view) : data_(reinterpret_cast<T*>(view.data)), in_order_(memory_order(view)) {}

  // make(done, n, out) writes elements first + done .. + n side by side; they land in their places.
  template <class Make> void put(int64_t first, int64_t count, Make&& make) const {
    if (is_one_run(in_order_)) return make(int64_t{0}, count, data_ + first);
    const int64_t stride = in_order_[in_order_.size() - 1].stride;
    T batch[kBatch];
    for (int64_t done = 0; done < count; done += kBatch) {
      const int64_t n = std::min(kBatch, count - done);
      make(done, n, batch);
      const T* from = batch;
      for_each_run(in_order_, first + done, first + done + n, [&](int64_t offset, int64_t run) {
        for (int64_t j = 0; j < run; ++j) data_[offset + j * stride] = *from++;
      });
    }
  }

 private:
  T* data_;
  InlineVector<Dim> in_order_;
};

// Numbers of the lanes rounded to the dtype.
template <class T> void narrow(const Lane<T>* x, int64_t count, T* out) {
  if constexpr (kIsHalf<T>) {
    torch_kernels().narrow[static_cast<int>(kDType<T>)](x, count, out);
  } else {
    std::copy_n(x, count, out);
  }
}

template <class F> F multiply_add(F x, F factor, F term, bool is_fused) {
  return is_fused ? std::fma(x, factor, term) : x * factor + term;
}

TorchUniform make_torch_uniform(DType dtype, double low, double high, TorchArithmetic arithmetic);

}  // namespace pyinit::torch_stream
