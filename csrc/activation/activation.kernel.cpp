// Activation functions, their derivatives, and softmax. Compiled once per instruction set.
#include "activation/kernels.hpp"
#include "simd/exponential.hpp"

namespace pyinit::PYINIT_NS {
namespace {

// ---- Functions -----------------------------------------------------------------------------------------
//
// Each has value(x), and what there is of from_input(g, x) and from_output(g, y): g times the derivative, with torch's
// formulas, so that NaN, infinity and zero come out as torch's do.

template <class F> F zero() { return constant<F>(0.0); }
template <class F> F one() { return constant<F>(1.0); }

template <class F> struct Identity {
  explicit Identity(F) {}
  F value(F x) const { return x; }
  F from_input(F g, F) const { return g; }
  F from_output(F g, F) const { return g; }
};

template <class F> struct Relu {
  explicit Relu(F) {}
  F value(F x) const { return max(zero<F>(), x); }
  F from_input(F g, F x) const { return select(less_equal(x, zero<F>()), zero<F>(), g); }
  F from_output(F g, F y) const { return from_input(g, y); }
};

template <class F> struct LeakyRelu {
  F slope;
  explicit LeakyRelu(F parameter) : slope(parameter) {}
  F value(F x) const { return select(less(zero<F>(), x), x, x * slope); }
  F from_input(F g, F x) const { return select(less(zero<F>(), x), g, g * slope); }
  F from_output(F g, F y) const { return from_input(g, y); }
};

template <class F> struct ScaledElu {
  F alpha, scale;
  F value(F x) const {
    const F below = expm1(max(vec(Number<F>::kExpm1IsMinusOne), x)) * alpha;
    return select(less(x, zero<F>()), below, x * scale);
  }
  F from_input(F g, F x) const { return select(less(zero<F>(), x), g * scale, g * alpha * decay(x)); }
  F from_output(F g, F y) const { return select(less(zero<F>(), y), g * scale, g * (y + alpha)); }
};
template <class F> struct Elu : ScaledElu<F> {
  explicit Elu(F parameter) : ScaledElu<F>{parameter, one<F>()} {}
};
// Klambauer et al. 2017, "Self-normalizing neural networks".
template <class F> struct Selu : ScaledElu<F> {
  static constexpr double kAlpha = 1.6732632423543772848170429916717, kScale = 1.0507009873554804934193349852946;
  explicit Selu(F) : ScaledElu<F>{constant<F>(kAlpha * kScale), constant<F>(kScale)} {}
};

// Hendrycks and Gimpel 2016, "Gaussian error linear units".
template <class F> struct Gelu {
  explicit Gelu(F) {}
  F value(F x) const { return x * normal(x).cdf; }
  F from_input(F g, F x) const {
    const Normal<F> n = normal(x);
    return g * multiply_add(x, n.density, n.cdf);
  }
};

// x (1 + tanh(u)) / 2 = x / (1 + exp(-2u)) with u = sqrt(2 / pi) (x + 0.044715 x^3).
template <class F> struct GeluTanh {
  static constexpr double kLinear = 1.5957691216057307117597842397375, kCubic = 0.044715 * kLinear;
  explicit GeluTanh(F) {}
  F value(F x) const { return x * logistic(twice_u(x, x * x)); }
  F from_input(F g, F x) const {
    const F square = x * x;
    const Logistic<F> s = logistic_pair(twice_u(x, square));
    const F slope = x * multiply_add(constant<F>(3 * kCubic), square, constant<F>(kLinear));
    return g * multiply_add(s.value * s.complement, slope, s.value);
  }

 private:
  static F twice_u(F x, F square) { return x * multiply_add(constant<F>(kCubic), square, constant<F>(kLinear)); }
};

template <class F> struct Silu {
  explicit Silu(F) {}
  F value(F x) const { return x * logistic(x); }
  F from_input(F g, F x) const {
    const Logistic<F> s = logistic_pair(x);
    return g * (s.value * multiply_add(x, s.complement, one<F>()));
  }
};

template <class F> struct Sigmoid {
  explicit Sigmoid(F) {}
  F value(F x) const { return logistic(x); }
  F from_output(F g, F y) const { return g * (one<F>() - y) * y; }
};

template <class F> struct Tanh {
  explicit Tanh(F) {}
  F value(F x) const { return tanh(x); }
  F from_output(F g, F y) const { return g * multiply_subtract(y, y, one<F>()); }
};

// With torch's default beta of 1 and threshold of 20.
template <class F> struct Softplus {
  explicit Softplus(F) {}
  F value(F x) const {
    const F curve = max(zero<F>(), x) + log1p(decay(negate(magnitude(x))));
    return select(less(constant<F>(20.0), x), x, curve);
  }
  F from_input(F g, F x) const { return select(less(constant<F>(20.0), x), g, g * logistic(x)); }
};

// In the order of Activation.
template <template <class> class... Functions> struct List {};
using All = List<Identity, Relu, LeakyRelu, Elu, Selu, Gelu, GeluTanh, Silu, Sigmoid, Tanh, Softplus>;

// ---- Loops ---------------------------------------------------------------------------------------------

// The first n elements, the others 0; and back.
template <class T> Vec<T> load_part(const T* p, int64_t n, T other = T{0}) {
  T buffer[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) buffer[i] = other;
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(T));
  return load(buffer);
}
template <class T> void store_part(T* p, Vec<T> x, int64_t n) {
  T buffer[kLanes<T>];
  store(buffer, x);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(T));
}

// out[i] = f(in[i]...), a vector at a time.
template <class T, bool past_caches = false, class F, class... In>
PYINIT_INLINE void map(int64_t count, T* out, const F& f, const In*... in) {
  constexpr int L = kLanes<T>;
  int64_t i = 0;
  if constexpr (past_caches) {  // to where the output is aligned
    const auto place = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) / sizeof(T) % L);
    i = place == 0 ? 0 : L - place < count ? L - place : count;
    store_part(out, f(load_part(in, i)...), i);
  }
  for (; i + L <= count; i += L) {
    const Vec<T> y = f(load(in + i)...);
    if constexpr (past_caches) {
      stream(out + i, y);
    } else {
      store(out + i, y);
    }
  }
  if (i < count) store_part(out + i, f(load_part(in + i, count - i)...), count - i);
  if constexpr (past_caches) stream_fence();
}

template <class T, bool past_caches, template <class> class Function>
void forward(int64_t count, const T* x, T* out, T parameter) {
  const Function<Vec<T>> f(vec(parameter));
  map<T, past_caches>(count, out, [&](Vec<T> v) { return f.value(v); }, x);
}
template <class T, template <class> class Function>
void biased(int64_t count, const T* x, T bias, T* out, T parameter) {
  const Function<Vec<T>> f(vec(parameter));
  const Vec<T> b = vec(bias);
  map<T>(count, out, [&](Vec<T> v) { return f.value(v + b); }, x);
}
template <class T, template <class> class Function>
void biased_row(int64_t count, const T* x, const T* bias, T* out, T parameter) {
  const Function<Vec<T>> f(vec(parameter));
  map<T>(count, out, [&](Vec<T> v, Vec<T> b) { return f.value(v + b); }, x, bias);
}

template <class T> using Backward = void (*)(int64_t, const T*, const T*, T*, T);
template <class T, bool past_caches, template <class> class Function> constexpr Backward<T> from_input() {
  if constexpr (requires(Function<Vec<T>> f, Vec<T> v) { f.from_input(v, v); }) {
    return [](int64_t count, const T* grad, const T* x, T* out, T parameter) {
      const Function<Vec<T>> f(vec(parameter));
      map<T, past_caches>(count, out, [&](Vec<T> g, Vec<T> v) { return f.from_input(g, v); }, grad, x);
    };
  } else {
    return nullptr;
  }
}
template <class T, bool past_caches, template <class> class Function> constexpr Backward<T> from_output() {
  if constexpr (requires(Function<Vec<T>> f, Vec<T> v) { f.from_output(v, v); }) {
    return [](int64_t count, const T* grad, const T* y, T* out, T parameter) {
      const Function<Vec<T>> f(vec(parameter));
      map<T, past_caches>(count, out, [&](Vec<T> g, Vec<T> v) { return f.from_output(g, v); }, grad, y);
    };
  } else {
    return nullptr;
  }
}

// ---- Softmax -------------------------------------------------------------------------------------------
//
// Sums of rows have 16 partial sums, element i going to number i % 16, which are added up in a fixed order; sums of
// columns go from the first element to the last.

constexpr int kSums = 16;

template <class T> struct Sums {
  static constexpr int L = kLanes<T>, kVectors = kSums / L;
  Vec<T> v[kVectors];

  explicit Sums(T start) {
    for (Vec<T>& x : v) x = vec(start);
  }
  // Number i and number i + 8 are added, then i and i + 4, and so on.
  Vec<T> sum() const {
    Sums joined = *this;
    for (int half = kVectors / 2; half > 0; half /= 2) {
      for (int k = 0; k < half; ++k) joined.v[k] = joined.v[k] + joined.v[k + half];
    }
    T all[L];
    store(all, joined.v[0]);
    for (int half = L / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) all[i] = all[i] + all[i + half];
    }
    return vec(all[0]);
  }
  Vec<T> largest() const {
    Sums joined = *this;
    for (int half = kVectors / 2; half > 0; half /= 2) {
      for (int k = 0; k < half; ++k) joined.v[k] = max(joined.v[k], joined.v[k + half]);
    }
    T all[L];
    store(all, joined.v[0]);
    T most = all[0];
    for (int i = 1; i < L; ++i) most = all[i] > most ? all[i] : most;
    return vec(most);
  }
};

// How a row's vectors are read and written. The last one is read with `other` in place of what lies behind the row.
// What it writes there belongs to the next row, which is written later; without one, only the row's own elements are
// touched.
template <class T> struct Whole {
  Vec<T> read(const T* p, T) const { return load(p); }
  void write(T* p, Vec<T> x) const { store(p, x); }
};
template <class T> struct Masked {
  Vec<T> negative_inside;
  Vec<T> read(const T* p, T other) const { return select(is_negative(negative_inside), load(p), vec(other)); }
  void write(T* p, Vec<T> x) const { store(p, x); }
};
template <class T> struct Part {
  int64_t n;
  Vec<T> read(const T* p, T other) const { return load_part(p, n, other); }
  void write(T* p, Vec<T> x) const { store_part(p, x, n); }
};

// Rows of `count` elements, one behind the other.
template <class T> struct Rows {
  static constexpr int L = kLanes<T>, kVectors = kSums / L;
  int64_t rows, count, rest;
  Masked<T> last;

  Rows(int64_t rows, int64_t count) : rows(rows), count(count), rest(count % L), last{vec(T{0})} {
    T inside[L];
    for (int i = 0; i < L; ++i) inside[i] = i < rest ? T{-1} : T{0};
    last.negative_inside = load(inside);
  }
  // f(access, place, number of the partial sums) for the vectors of a row.
  template <class F> PYINIT_INLINE void walk(const Rows& r, int64_t row, const F& f) {
    int64_t i = 0;
    for (; i + kSums <= r.count; i += kSums) {
#pragma GCC unroll 8
      for (int k = 0; k < kVectors; ++k) f(Whole<T>{}, i + k * L, k);
    }
    int k = 0;
    for (; i + L <= r.count; i += L, ++k) f(Whole<T>{}, i, k);
    if (r.rest == 0) return;
    if ((r.rows - row - 1) * r.count >= L) {
      f(r.last, i, k);
    } else {
      f(Part<T>{r.rest}, i, k);
    }
  }
};

template <class T> constexpr T kMinusInfinity = -static_cast<T>(__builtin_inf());

// Not a number where that is none, which the logarithm does not look for.
template <class F> PYINIT_INLINE F log_of_sum(F sum) { return log(sum) + (sum - sum); }

template <class T, bool is_log> void softmax_rows(int64_t rows, int64_t count, const T* x, T* out) {
  using V = Vec<T>;
  const Rows<T> all(rows, count);
  for (int64_t r = 0; r < rows; ++r, x += count, out += count) {
    Sums<T> maxima(kMinusInfinity<T>), sums(T{0});
    Rows<T>::walk(all, r, [&](const auto& at, int64_t i, int k) {
      maxima.v[k] = max(maxima.v[k], at.read(x + i, kMinusInfinity<T>));
    });
    const V largest = maxima.largest();
    Rows<T>::walk(all, r, [&](const auto& at, int64_t i, int k) {
      const V e = decay(at.read(x + i, kMinusInfinity<T>) - largest);
      sums.v[k] = sums.v[k] + e;
      if constexpr (!is_log) at.write(out + i, e);
    });
    const V sum = sums.sum();
    const V last = is_log ? log_of_sum(sum) : one<V>() / sum;
    Rows<T>::walk(all, r, [&](const auto& at, int64_t i, int) {
      if constexpr (is_log) {
        at.write(out + i, at.read(x + i, T{0}) - largest - last);
      } else {
        at.write(out + i, at.read(out + i, T{0}) * last);
      }
    });
  }
}

// Of softmax y (g - sum(g y)), and of its logarithm g - e^y sum(g).
template <class T, bool is_log> PYINIT_INLINE Vec<T> weighted(Vec<T> g, Vec<T> y) { return is_log ? g : g * y; }
template <class T, bool is_log> PYINIT_INLINE Vec<T> softmax_gradient(Vec<T> g, Vec<T> y, Vec<T> sum) {
  if constexpr (is_log) {
    return multiply_subtract(decay(y), sum, g);
  } else {
    return y * (g - sum);
  }
}

template <class T, bool is_log>
void softmax_rows_backward(int64_t rows, int64_t count, const T* grad, const T* y, T* out) {
  const Rows<T> all(rows, count);
  for (int64_t r = 0; r < rows; ++r, grad += count, y += count, out += count) {
    Sums<T> sums(T{0});
    Rows<T>::walk(all, r, [&](const auto& at, int64_t i, int k) {
      sums.v[k] = sums.v[k] + weighted<T, is_log>(at.read(grad + i, T{0}), at.read(y + i, T{0}));
    });
    const Vec<T> sum = sums.sum();
    Rows<T>::walk(all, r, [&](const auto& at, int64_t i, int) {
      at.write(out + i, softmax_gradient<T, is_log>(at.read(grad + i, T{0}), at.read(y + i, T{0}), sum));
    });
  }
}

template <class T, bool is_log>
void softmax_columns(int64_t count, int64_t columns, int64_t stride, const T* x, T* out) {
  T largest[kSoftmaxColumns], sum[kSoftmaxColumns];
  std::memcpy(largest, x, static_cast<size_t>(columns) * sizeof(T));
  for (int64_t i = 1; i < count; ++i) {
    map<T>(
        columns, largest, [](Vec<T> a, Vec<T> b) { return max(a, b); }, static_cast<const T*>(largest), x + i * stride);
  }
  std::memset(sum, 0, sizeof(sum));
  for (int64_t i = 0; i < count; ++i) {
    const T* const row = x + i * stride;
    T* const e = out + i * stride;
    map<T>(columns, e, [](Vec<T> v, Vec<T> m) { return decay(v - m); }, row, static_cast<const T*>(largest));
    map<T>(
        columns, sum, [](Vec<T> s, Vec<T> v) { return s + v; }, static_cast<const T*>(sum), static_cast<const T*>(e));
  }
  map<T>(columns, sum, [](Vec<T> s) { return is_log ? log_of_sum(s) : one<Vec<T>>() / s; }, static_cast<const T*>(sum));
  for (int64_t i = 0; i < count; ++i) {
    T* const y = out + i * stride;
    if constexpr (is_log) {
      map<T>(
          columns, y, [](Vec<T> v, Vec<T> m, Vec<T> s) { return v - m - s; }, x + i * stride,
          static_cast<const T*>(largest), static_cast<const T*>(sum));
    } else {
      map<T>(
          columns, y, [](Vec<T> e, Vec<T> s) { return e * s; }, static_cast<const T*>(y), static_cast<const T*>(sum));
    }
  }
}

template <class T, bool is_log>
void softmax_columns_backward(int64_t count, int64_t columns, int64_t stride, const T* grad, const T* y, T* out) {
  T sum[kSoftmaxColumns];
  std::memset(sum, 0, sizeof(sum));
  for (int64_t i = 0; i < count; ++i) {
    map<T>(
        columns, sum, [](Vec<T> s, Vec<T> g, Vec<T> v) { return s + weighted<T, is_log>(g, v); },
        static_cast<const T*>(sum), grad + i * stride, y + i * stride);
  }
  for (int64_t i = 0; i < count; ++i) {
    map<T>(
        columns, out + i * stride, [](Vec<T> g, Vec<T> v, Vec<T> s) { return softmax_gradient<T, is_log>(g, v, s); },
        grad + i * stride, y + i * stride, static_cast<const T*>(sum));
  }
}

// ---- Tables --------------------------------------------------------------------------------------------

template <class T, bool is_log>
constexpr SoftmaxKernels<T> kSoftmax = {softmax_rows<T, is_log>, softmax_rows_backward<T, is_log>,
                                        softmax_columns<T, is_log>, softmax_columns_backward<T, is_log>};

template <class T, bool past_caches, template <class> class... Functions>
constexpr ElementKernels<T> element_kernels(List<Functions...>) {
  return {{forward<T, past_caches, Functions>...},
          {from_input<T, past_caches, Functions>()...},
          {from_output<T, past_caches, Functions>()...}};
}

template <class T, template <class> class... Functions> constexpr ActivationKernels<T> table(List<Functions...> all) {
  static_assert(sizeof...(Functions) == kActivations);
  return {element_kernels<T, false>(all),
          element_kernels<T, true>(all),
          {biased<T, Functions>...},
          {biased_row<T, Functions>...},
          kSoftmax<T, false>,
          kSoftmax<T, true>};
}

}  // namespace

const ActivationTable activation_table = {table<float>(All{}), table<double>(All{})};

}  // namespace pyinit::PYINIT_NS
