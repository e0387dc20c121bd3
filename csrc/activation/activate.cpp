#include "activation/activate.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>

#include "activation/kernels.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements that are worth a thread
constexpr int64_t kTile = 512;       // elements that are copied together, to lie side by side
// Bytes of all tensors together from which on little of an output would stay in the caches: to read it into them, only
// to write it, is a third of the way for nothing.
constexpr int64_t kPastCaches = int64_t{40} << 20;
constexpr int64_t kLine = 16;  // elements of a cache line: threads do not share one

// A dimension of several tensors: its size, and the stride in each of them.
template <size_t tensors> struct JointDim {
  int64_t size;
  std::array<int64_t, tensors> strides;
};
template <size_t tensors> using JointDims = InlineVector<JointDim<tensors>>;

// The dims of all views in order of the last one's memory, outermost first, joined where each runs into the next.
template <size_t tensors> JointDims<tensors> joint_dims(const std::array<const View*, tensors>& views) {
  JointDims<tensors> sorted, joined;
  for (size_t d = 0; d < views[0]->dims.size(); ++d) {
    JointDim<tensors> dim{views[0]->dims[d].size, {}};
    for (size_t v = 0; v < tensors; ++v) dim.strides[v] = views[v]->dims[d].stride;
    if (dim.size != 1) sorted.push_back(dim);
  }
  std::sort(sorted.begin(), sorted.end(), [](const JointDim<tensors>& a, const JointDim<tensors>& b) {
    return std::abs(a.strides.back()) > std::abs(b.strides.back());
  });
  for (const JointDim<tensors>& dim : sorted) {
    bool runs_on = !joined.empty();
    for (size_t v = 0; runs_on && v < tensors; ++v) runs_on = joined.back().strides[v] == dim.size * dim.strides[v];
    if (runs_on) {
      joined.back() = {joined.back().size * dim.size, dim.strides};
    } else {
      joined.push_back(dim);
    }
  }
  if (joined.empty()) {
    joined.push_back({1, {}});
    joined.back().strides.fill(1);
  }
  return joined;
}

// kernel(count, in..., out) on elements side by side, for all elements; those that lie apart are copied. The last view
// is the output.
template <class T, size_t tensors, class Kernel>
void for_all(const std::array<const View*, tensors>& views, int threads, const Kernel& kernel) {
  const int64_t count = views[0]->count();
  if (count == 0) return;
  prefer_huge_pages(*views.back());
  const JointDims<tensors> dims = joint_dims(views);
  const JointDim<tensors> inner = dims[dims.size() - 1];
  parallel_pieces(usable_threads(threads, count, kGrain), count, kLine, 1, [&](int64_t begin, int64_t end) {
    alignas(64) T tiles[tensors][kTile];
    bool copied[tensors], any_copied = false;
    for (size_t v = 0; v < tensors; ++v) any_copied |= copied[v] = inner.strides[v] != 1;
    for (int64_t i = begin; i < end;) {
      std::array<T*, tensors> at;
      for (size_t v = 0; v < tensors; ++v) {
        at[v] = reinterpret_cast<T*>(views[v]->data) + i % inner.size * inner.strides[v];
      }
      int64_t row = i / inner.size;
      for (size_t d = dims.size() - 1; d-- > 0; row /= dims[d].size) {
        for (size_t v = 0; v < tensors; ++v) at[v] += row % dims[d].size * dims[d].strides[v];
      }
      const int64_t n = std::min({inner.size - i % inner.size, end - i, any_copied ? kTile : count});
      std::array<T*, tensors> here = at;
      for (size_t v = 0; v < tensors; ++v) {
        if (!copied[v]) continue;
        here[v] = tiles[v];
        for (int64_t k = 0; v + 1 < tensors && k < n; ++k) tiles[v][k] = at[v][k * inner.strides[v]];
      }
      kernel(n, here);
      if (copied[tensors - 1]) {
        // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): the kernel has just written it
        for (int64_t k = 0; k < n; ++k) at[tensors - 1][k * inner.strides[tensors - 1]] = tiles[tensors - 1][k];
      }
      i += n;
    }
  });
}

// Where long outputs are dense memory apart from the inputs, the kernels that write past the caches.
template <class T, size_t tensors>
const ElementKernels<T>& element_kernels(const std::array<const View*, tensors>& views) {
  const View& out = *views.back();
  const int64_t bytes = out.count() * static_cast<int64_t>(tensors * sizeof(T));
  bool is_long = bytes >= kPastCaches && is_dense(out);
  for (size_t v = 0; v + 1 < tensors; ++v) is_long = is_long && views[v]->data != out.data;
  const ActivationKernels<T>& kernels = activation_kernels<T>();
  return is_long ? kernels.past_caches : kernels;
}

template <class Run> void on_type(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::f32: return run(float{});
    case DType::f64: return run(double{});
    default: throw std::invalid_argument("dtype: takes float32 and float64");
  }
}

// rows(first, count) of shares of the rows, each `count` elements long; columns(first element, columns) of shares of
// the columns, at most kSoftmaxColumns of those that lie side by side.
template <class Rows, class Columns>
void share_softmax(const SoftmaxShape& shape, int threads, const Rows& rows, const Columns& columns) {
  const int64_t count = shape.outer * shape.count * shape.inner;
  if (count == 0) return;
  const int wanted = usable_threads(threads, count, kGrain);
  if (shape.inner == 1) {
    parallel_pieces(wanted, shape.outer, 1, shape.count, [&](int64_t begin, int64_t end) { rows(begin, end - begin); });
    return;
  }
  const int64_t strips = divide_up(shape.inner, kSoftmaxColumns);
  const int64_t each = shape.count * kSoftmaxColumns;
  parallel_pieces(wanted, shape.outer * strips, 1, each, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % strips * kSoftmaxColumns;
      columns(i / strips * shape.count * shape.inner + first, std::min(kSoftmaxColumns, shape.inner - first));
    }
  });
}

}  // namespace

void activate(Activation activation, double parameter, const View& x, const View& out, int threads) {
  on_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const std::array<const View*, 2> views{&x, &out};
    const auto kernel = element_kernels<T>(views).forward[static_cast<int>(activation)];
    for_all<T>(views, threads,
               [&](int64_t n, const std::array<T*, 2>& at) { kernel(n, at[0], at[1], static_cast<T>(parameter)); });
  });
}

void activate_backward(Activation activation, double parameter, bool from_output, const View& grad, const View& saved,
                       const View& out, int threads) {
  on_type(grad.dtype, [&](auto zero) {
    using T = decltype(zero);
    const std::array<const View*, 3> views{&grad, &saved, &out};
    const ElementKernels<T>& kernels = element_kernels<T>(views);
    const auto kernel =
        (from_output ? kernels.backward_from_output : kernels.backward_from_input)[static_cast<int>(activation)];
    if (kernel == nullptr) throw std::invalid_argument("from_output: the derivative takes the other one");
    for_all<T>(views, threads, [&](int64_t n, const std::array<T*, 3>& at) {
      kernel(n, at[0], at[1], at[2], static_cast<T>(parameter));
    });
  });
}

template <class T> void softmax(bool is_log, const SoftmaxShape& shape, const T* x, T* out, int threads) {
  const SoftmaxKernels<T>& kernels = is_log ? activation_kernels<T>().log_softmax : activation_kernels<T>().softmax;
  share_softmax(
      shape, threads,
      [&](int64_t first, int64_t rows) {
        kernels.rows(rows, shape.count, x + first * shape.count, out + first * shape.count);
      },
      [&](int64_t first, int64_t columns) {
        kernels.columns(shape.count, columns, shape.inner, x + first, out + first);
      });
}

template <class T>
void softmax_backward(bool is_log, const SoftmaxShape& shape, const T* grad, const T* y, T* out, int threads) {
  const SoftmaxKernels<T>& kernels = is_log ? activation_kernels<T>().log_softmax : activation_kernels<T>().softmax;
  share_softmax(
      shape, threads,
      [&](int64_t first, int64_t rows) {
        const int64_t at = first * shape.count;
        kernels.rows_backward(rows, shape.count, grad + at, y + at, out + at);
      },
      [&](int64_t first, int64_t columns) {
        kernels.columns_backward(shape.count, columns, shape.inner, grad + first, y + first, out + first);
      });
}

template void softmax(bool, const SoftmaxShape&, const float*, float*, int);
template void softmax(bool, const SoftmaxShape&, const double*, double*, int);
template void softmax_backward(bool, const SoftmaxShape&, const float*, const float*, float*, int);
template void softmax_backward(bool, const SoftmaxShape&, const double*, const double*, double*, int);

}  // namespace pyinit
