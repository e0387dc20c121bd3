// What the statistics on a device are made of: elements by number, lanes, and pieces of a tensor or of a channel.
#pragma once

#include <algorithm>
#include <stdexcept>

#include "core/view.hpp"
#include "cuda/rounded.hpp"
#include "random/power_sums.hpp"
#include "random/two_passes.hpp"
#include "simd/math.hpp"

namespace pyinit::cuda {

PYINIT_INLINE F32 value_in(Half x) { return from_half(u32(uint32_t{x.bits} << 16)); }
PYINIT_INLINE F32 value_in(BFloat16 x) { return from_bits(u32(uint32_t{x.bits} << 16)); }
PYINIT_INLINE F32 value_in(float x) { return f32(x); }
PYINIT_INLINE F64 value_in(double x) { return f64(x); }

constexpr int kMostDescribedDims = 6;  // that elements may have once joined

template <class T> using LaneOf = decltype(value_in(T{}));
template <class T> constexpr DType kDTypeOf = DType::f32;
template <> inline constexpr DType kDTypeOf<Half> = DType::f16;
template <> inline constexpr DType kDTypeOf<BFloat16> = DType::bf16;
template <> inline constexpr DType kDTypeOf<double> = DType::f64;

// Elements in an order.
struct Elements {
  Elements() = default;
  explicit Elements(const InlineVector<Dim>& in_order) : dims(static_cast<int>(in_order.size())) {
    if (dims > kMostDescribedDims) throw std::invalid_argument("target: has too many dimensions");
    for (int d = 0; d < dims; ++d) {
      size[d] = in_order[static_cast<size_t>(d)].size;
      stride[d] = in_order[static_cast<size_t>(d)].stride;
    }
  }
  PYINIT_METHOD int64_t offset_of(int64_t i) const {
    int64_t offset = 0;
#pragma unroll 1
    for (int d = dims; d-- > 0;) {
      offset += (d == 0 ? i : i % size[d]) * stride[d];
      i /= size[d];
    }
    return offset;
  }
  int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < dims; ++d) n *= size[d];
    return n;
  }

  int dims = 0;
  int64_t size[kMostDescribedDims] = {}, stride[kMostDescribedDims] = {};
};

// The values from element `begin` on, of which many lie in one run most of the time.
template <class T> class Values {
 public:
  PYINIT_METHOD Values(const T* data, const Elements& elements, int64_t begin, int64_t count)
      : data_(data), elements_(elements), begin_(begin), stride_(elements.stride[elements.dims - 1]) {
    const int64_t run = elements.size[elements.dims - 1];
    is_run_ = elements.dims == 1 || begin % run + count <= run;
    if (is_run_) data_ += elements.offset_of(begin);
  }
  PYINIT_METHOD LaneOf<T> operator()(int64_t i) const {
    return value_in(data_[is_run_ ? i * stride_ : elements_.offset_of(begin_ + i)]);
  }

 private:
  const T* data_;
  const Elements& elements_;
  int64_t begin_, stride_;
  bool is_run_;
};

// Element k of a lane: 16-bit types lie in words by twos.
template <class T> PYINIT_METHOD int64_t element_of(int64_t lane, int64_t k) {
  return sizeof(T) == 2 ? k / 2 * kWhole + 2 * lane + k % 2 : k * kColumns + lane;
}

// Of a lane of `count` values, filled up with the first of them, which is at no distance from itself.
template <class T>
PYINIT_METHOD DistanceSums<LaneOf<T>> lane_sums(const Values<T>& values, int64_t count, int64_t lane) {
  const LaneOf<T> first = values(0);
  DistanceSums<LaneOf<T>> of;
  of.begin(first);
#pragma unroll 8
  for (int64_t k = 0; k < divide_up(count, kWhole) * (kWhole / kColumns); ++k) {
    const int64_t i = element_of<T>(lane, k);
    of.add(i < count ? values(i) : first, first);
  }
  return of;
}

// Of a lane of a multiple of kWhole values.
template <class V> struct LanePowers {
  PowerSums<V> powers;
  Counts<V> counts;
  decltype(no_counts(V{})) finite;

  PYINIT_METHOD void begin() {
    powers.begin();
    counts.begin();
    finite = no_counts(V{});
  }
  PYINIT_METHOD void add(V value, V centre, V scale, V low, V high) {
    powers.add(value, centre, scale);
    counts.add(value, low, high);
    finite = counted(equal(value - value, constant<V>(0)), finite);
  }
};

// Over all lanes: i and i + 8, then i and i + 4, ...
template <class Operation, class Get> PYINIT_METHOD double total(const Get& lane) {
  double x[kColumns];
#pragma unroll
  for (int i = 0; i < kColumns; ++i) x[i] = static_cast<double>(lane(i).v);
#pragma unroll
  for (int half = kColumns / 2; half > 0; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; ++i) x[i] = Operation{}(x[i], x[i + half]);
  }
  return x[0];
}

template <class V> PYINIT_METHOD Sums sums_of(V first, const DistanceSums<V>* lanes) {
  return {static_cast<double>(first.v), total<Sum>([&](int i) { return lanes[i].sum; }),
          total<Sum>([&](int i) { return lanes[i].squares; }), total<Least>([&](int i) { return lanes[i].low; }),
          total<Greatest>([&](int i) { return lanes[i].high; })};
}

template <class V> PYINIT_METHOD Powers powers_of(const LanePowers<V>* lanes) {
  Powers of{total<Sum>([&](int i) { return lanes[i].powers.first; }),
            total<Sum>([&](int i) { return lanes[i].powers.second; }),
            total<Sum>([&](int i) { return lanes[i].powers.third; }),
            total<Sum>([&](int i) { return lanes[i].powers.fourth; }),
            0,
            0,
            0};
  for (int i = 0; i < kColumns; ++i) {
    of.zeros += static_cast<int64_t>(lanes[i].counts.zeros.v);
    of.low += static_cast<int64_t>(lanes[i].counts.low.v);
    of.high += static_cast<int64_t>(lanes[i].counts.high.v);
  }
  return of;
}

template <class T> PYINIT_METHOD int64_t count_nonfinite(const Values<T>& values, int64_t count) {
  int64_t n = 0;
  for (int64_t i = 0; i < count; ++i) n += !std::isfinite(values(i).v);
  return n;
}

// Of fewer than kWhole values, by one thread.
template <class T> PYINIT_METHOD Moments describe_few(const Values<T>& values, int64_t count, const Bounds& bounds) {
  DistanceSums<LaneOf<T>> lanes[kColumns];
  for (int i = 0; i < kColumns; ++i) lanes[i] = lane_sums(values, count, i);
  auto [m, frame] = begin_statistics<Rounded>(sums_of(values(0), lanes), kDTypeOf<T>, count,
                                              [&] { return count_nonfinite(values, count); });
  finish_statistics<Rounded>(powers_of_few<Rounded>([&](int64_t i) { return values(i).v; }, count, frame, bounds),
                             frame, m);
  return m;
}

// What a piece of a tensor or of a channel is known to be so far.
struct Piece {
  Moments of;
  Frame frame;
};

}  // namespace pyinit::cuda
