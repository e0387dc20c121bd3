// The orthonormal factor of a QR factorization, by blocks of Householder reflectors.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "core/parallel.hpp"
#include "linalg/orthogonal.hpp"
#include "linalg/reflector_product.hpp"

namespace pyinit {
namespace {

constexpr int64_t kRowAlignment = 64;  // of a thread's part of the matrix

template <class T> class Factorization {
 public:
  Factorization(const TallMatrix<T>& matrix, int threads)
      : matrix_(matrix),
        product_(matrix.rows, matrix.columns, threads),
        vectors_(all_elements()),
        strip_(product_.rows() * kStrip),
        w_(product_.threads() * widest_step() * panel_) {
    T* memory = vectors_.data();
    for (ReflectorBlock<T>& block : product_.blocks()) {
      block.place(memory);
      memory += block.elements();
    }
  }

  void operator()(const TallView& to, double gain) {
    for_rows(product_.rows(), [&](int64_t begin, int64_t end) { load_rows(matrix_, begin, end, product_.panels()); });
    for (size_t b = 0; b < product_.blocks().size(); ++b) {
      factorize(product_.blocks()[b]);
      product_.apply_transposed(b);
    }
    const int64_t last = product_.columns() - 1;
    // A last column without a reflector of its own: R's element is what is left in its last row.
    if (product_.rows() == product_.columns() && last % kMaxPanel == 0) set_sign(last, panel_of(last)[last * panel_]);
    product_.multiply(0, product_.blocks().size());
    product_.store(to, gain);
  }

 private:
  int64_t all_elements() {
    int64_t sum = 0;
    for (const ReflectorBlock<T>& block : product_.blocks()) sum += block.elements();
    return sum;
  }
  int64_t widest_step() { return product_.blocks().empty() ? 0 : product_.blocks()[0].step; }
  T* panel_of(int64_t column) { return product_.panels() + column / panel_ * panel_ * product_.rows(); }
  void set_sign(int64_t column, T diagonal_of_r) {
    product_.signs()[static_cast<size_t>(column)] = std::copysign(T{1}, diagonal_of_r);
  }
  template <class F> void for_rows(int64_t rows, F&& f) {
    parallel_ranges(product_.threads(), rows, kRowAlignment, std::forward<F>(f));
  }

  // The block's reflectors from its columns, strip by strip.
  void factorize(const ReflectorBlock<T>& block) {
    for_rows(block.rows, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t column = 0; column < block.step; column += panel_) {
          std::copy_n(panel_of(block.first + column) + (block.first + row) * panel_, panel_,
                      block.v + row * block.step + column);
        }
      }
    });
    for (int64_t column = 0; column < block.width; column += kStrip) {
      const int64_t width = std::min<int64_t>(kStrip, block.width - column);
      factorize_strip(block, column, width);
      parallel_tasks(product_.threads(), (width + panel_ - 1) / panel_,
                     [&](int64_t panel, int) { fill_r(block, column + panel * panel_); });
      const int64_t diagonal = column * (block.step + 1), next = column + kStrip;
      const ReflectorBlock<T> strip{block.first + column, width,  block.rows - column, block.step, block.v + diagonal,
                                    block.r + diagonal,   nullptr};
      parallel_tasks(product_.threads(), (block.step - next) / panel_, [&](int64_t panel, int thread) {
        T* const c = block.v + column * block.step + next + panel * panel_;
        apply(strip, Side::transpose, {{c, block.step, 0, strip.rows, width}},
              w_.data() + thread * widest_step() * panel_);
      });
    }
  }

  void factorize_strip(const ReflectorBlock<T>& block, int64_t column, int64_t width) {
    const PanelKernels<T>& kernels = panel_kernels<T>();
    const int64_t rows = block.rows - column, filled = std::min<int64_t>(kStrip, block.step - column);
    T* const v = block.v + column * (block.step + 1);
    T* const strip = strip_.data();
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(v + row * block.step, filled, strip + row * kStrip);
      std::fill_n(strip + row * kStrip + filled, kStrip - filled, T{0});
    }
    T w[kStrip] = {};
    double sums[kStrip];
    kernels.reflect_strip[0](rows, strip, 0, w, 0, sums);
    for (int64_t i = 0; i < width; ++i) {
      T* const row = strip + i * kStrip;
      const T x1 = row[i];
      const Pivot<T> pivot = make_pivot(x1, sums[i]);
      block.reciprocals[column + i] = pivot.reciprocal;
      set_sign(block.first + column + i, pivot.sign);
      row[i] = pivot.v1;
      if (i + 1 == filled) break;
      const double moved = static_cast<double>(pivot.v1) - static_cast<double>(x1);
      const double reciprocal = static_cast<double>(pivot.reciprocal);
      w[i] = 0;
      for (int64_t j = i + 1; j < kStrip; ++j) {
        w[j] = static_cast<T>((sums[j] + moved * static_cast<double>(row[j])) * reciprocal);
      }
      kernels.reflect_strip[(i + 1) / 8](rows - i - 1, row + kStrip, i, w, i + 1, sums);
    }
    if (width < filled && block.first + column + width == product_.columns() - 1) {
      set_sign(product_.columns() - 1, strip[(rows - 1) * kStrip + width]);
    }
    for (int64_t row = -column; row < rows; ++row) {
      const int64_t count = std::clamp<int64_t>(row + 1, 0, width);
      std::copy_n(strip + row * kStrip, count, v + row * block.step);
      std::fill_n(v + row * block.step + count, filled - count, T{0});
    }
  }

  const TallMatrix<T> matrix_;
  const int64_t panel_ = panel_kernels<T>().panel;
  ReflectorProduct<T> product_;
  const Scratch<T> vectors_, strip_, w_;
};

}  // namespace

void fill_orthonormalized(const View& view, const void* matrix, double gain, int threads) {
  if (view.dims.size() < 2) throw std::invalid_argument("shape: needs two dimensions or more");
  if (view.count() == 0) return;
  const TallView to(view);
  const bool is_wide = view.dims[0].size != to.rows();
  const auto fill = [&](auto element) {
    using T = decltype(element);
    Factorization<T>({static_cast<const T*>(matrix), to.rows(), to.columns(), is_wide}, threads)(to, gain);
  };
  switch (view.dtype) {
    case DType::f32: return fill(float{});
    case DType::f64: return fill(double{});
    default: throw std::invalid_argument("dtype: takes float32 and float64");
  }
}

}  // namespace pyinit
