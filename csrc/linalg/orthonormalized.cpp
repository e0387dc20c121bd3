// The orthonormal factor of a QR factorization, by blocks of Householder reflectors.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "linalg/orthogonal.hpp"
#include "linalg/reflector_product.hpp"

namespace pyinit {
namespace {

constexpr int64_t kChunkRows = 1024;  // that are worked on together, and summed on their own

template <class T> class Factorization {
 public:
  Factorization(const TallMatrix<T>& matrix, int threads)
      : matrix_(matrix),
        product_(matrix.rows, matrix.columns, threads),
        vectors_(all_elements()),
        strip_(matrix.rows * kStrip),
        sums_(chunks(matrix.rows) * kStrip),
        products_(product_.threads() * widest_step() * panel_) {
    T* memory = vectors_.data();
    for (ReflectorBlock<T>& block : product_.blocks()) {
      block.place(memory);
      memory += block.elements();
    }
  }

  void operator()(const TallView& to, double gain) {
    Steps steps;
    add_chunks(steps, matrix_.rows,
               [this](int64_t begin, int64_t end) { load_rows(matrix_, begin, end, product_.panels()); });
    for (size_t b = 0; b < product_.blocks().size(); ++b) {
      add_factorize(steps, product_.blocks()[b]);
      product_.add_apply_transposed(steps, b);
    }
    const int64_t last = matrix_.columns - 1;
    if (matrix_.rows == matrix_.columns && last % kMaxPanel == 0) {
      // A column without a reflector, in a panel without one on any instruction set: R's element is what is left in the
      // last row.
      steps.add(1, [this, last](int64_t, int) { set_sign(last, panel_of(last)[last * panel_]); });
    }
    product_.add_multiply(steps, 0, product_.blocks().size());
    product_.add_store(steps, to, gain);
    steps.run(product_.threads());
  }

 private:
  int64_t all_elements() {
    int64_t sum = 0;
    for (const ReflectorBlock<T>& block : product_.blocks()) sum += block.elements();
    return sum;
  }
  int64_t widest_step() { return product_.blocks().empty() ? 0 : product_.blocks()[0].step; }
  T* panel_of(int64_t column) { return product_.panels() + column / panel_ * panel_ * matrix_.rows; }
  void set_sign(int64_t column, T diagonal_of_r) {
    product_.signs()[static_cast<size_t>(column)] = std::copysign(T{1}, diagonal_of_r);
  }

  static int64_t chunks(int64_t rows) { return divide_up(rows, kChunkRows); }
  // body(begin, end) for every chunk of rows.
  template <class Body> void add_chunks(Steps& steps, int64_t rows, Body body) {
    steps.add(chunks(rows),
              [rows, body](int64_t chunk, int) { body(chunk * kChunkRows, std::min((chunk + 1) * kChunkRows, rows)); });
  }

  // The block's reflectors from its columns.
  void add_factorize(Steps& steps, const ReflectorBlock<T>& block) {
    add_chunks(steps, block.rows, [this, &block](int64_t begin, int64_t end) {
      for (int64_t column = 0; column < block.step; column += panel_) {
        panel_kernels<T>().copy(end - begin, panel_, panel_of(block.first + column) + (block.first + begin) * panel_,
                                panel_, block.v + begin * block.step + column, block.step);
      }
    });
    for (int64_t column = 0; column < block.width; column += kStrip) {
      const Strip strip{&block, column, std::min<int64_t>(kStrip, block.width - column),
                        std::min<int64_t>(kStrip, block.step - column), block.rows - column};
      add_factorize(steps, strip);
      steps.add(divide_up(strip.width, panel_), [this, &block, column](int64_t panel, int) {
        fill_r(block, column / panel_ + panel, block.step / panel_);
      });
      const int64_t next = column + kStrip;
      if (next >= block.step) continue;
      steps.add((block.step - next) / panel_, [this, &block, strip, next](int64_t panel, int thread) {
        const int64_t diagonal = strip.column * (block.step + 1);
        const ReflectorBlock<T> reflectors{block.first + strip.column, strip.width,        strip.rows, block.step,
                                           block.v + diagonal,         block.r + diagonal, nullptr};
        T* const c = block.v + strip.column * block.step + next + panel * panel_;
        apply(reflectors, Side::transpose, {{c, block.step, 0, strip.rows, strip.width}},
              products_.data() + thread * widest_step() * panel_);
      });
    }
  }

  // Columns of a block that are factorized one by one: `width` of them, and as many as are `filled` go along.
  struct Strip {
    const ReflectorBlock<T>* block;
    int64_t column, width, filled;
    int64_t rows;  // from the block's row `column` on
    T* v() const { return block->v + column * (block->step + 1); }
  };

  void add_factorize(Steps& steps, const Strip& strip) {
    if (chunks(strip.rows) == 1) {
      steps.add(1, [this, strip](int64_t, int) {
        load(strip, 0, strip.rows);
        for (int64_t i = 0; i < strip.width; ++i) {
          make_reflector(strip, i);
          reflect(strip, i, 0, strip.rows);
        }
        save(strip, 0, strip.rows);
      });
      return;
    }
    add_chunks(steps, strip.rows, [this, strip](int64_t begin, int64_t end) { load(strip, begin, end); });
    for (int64_t i = 0; i < strip.width; ++i) {
      steps.add(1, [this, strip, i](int64_t, int) { make_reflector(strip, i); });
      add_chunks(steps, strip.rows, [this, strip, i](int64_t begin, int64_t end) { reflect(strip, i, begin, end); });
    }
    add_chunks(steps, strip.rows, [this, strip](int64_t begin, int64_t end) { save(strip, begin, end); });
  }

  T* strip_row(int64_t row) { return strip_.data() + row * kStrip; }
  double* sums_of(int64_t row) { return sums_.data() + row / kChunkRows * kStrip; }

  // Rows [begin, end) of the strip, and the products of their columns with the first one.
  void load(const Strip& strip, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::copy_n(strip.v() + row * strip.block->step, strip.filled, strip_row(row));
      std::fill_n(strip_row(row) + strip.filled, kStrip - strip.filled, T{0});
    }
    constexpr T kNothing[kStrip] = {};
    panel_kernels<T>().reflect_strip[0](end - begin, strip_row(begin), 0, kNothing, 0, sums_of(begin));
  }

  // Reflector i, and what it takes of the columns after it.
  void make_reflector(const Strip& strip, int64_t i) {
    double sums[kStrip] = {};
    for (int64_t row = 0; row < strip.rows; row += kChunkRows) {
      for (int64_t j = i; j < kStrip; ++j) sums[j] += sums_of(row)[j];
    }
    T* const row = strip_row(i);
    const T x1 = row[i];
    const Pivot<T> pivot = make_pivot(x1, sums[i]);
    strip.block->reciprocals[strip.column + i] = pivot.reciprocal;
    set_sign(strip.block->first + strip.column + i, pivot.sign);
    row[i] = pivot.v1;
    const double moved = static_cast<double>(pivot.v1) - static_cast<double>(x1);
    std::fill_n(taken_, i + 1, T{0});
    for (int64_t j = i + 1; j < kStrip; ++j) {
      taken_[j] =
          static_cast<T>((sums[j] + moved * static_cast<double>(row[j])) * static_cast<double>(pivot.reciprocal));
    }
  }

  // Applies reflector i to rows [begin, end), and leaves the products with the next column.
  void reflect(const Strip& strip, int64_t i, int64_t begin, int64_t end) {
    if (i + 1 == strip.filled) return;
    const int64_t from = std::max(begin, i + 1);
    panel_kernels<T>().reflect_strip[(i + 1) / 8](end - from, strip_row(from), i, taken_, i + 1, sums_of(begin));
  }

  // The reflectors to V, with zeros above them.
  void save(const Strip& strip, int64_t begin, int64_t end) {
    if (begin == 0) {
      // A column of a square matrix without a reflector: what is left of it is R's element.
      const int64_t next = strip.block->first + strip.column + strip.width;
      if (strip.width < strip.filled && next < matrix_.columns) set_sign(next, strip_row(strip.rows - 1)[strip.width]);
      begin = -strip.column;
    }
    for (int64_t row = begin; row < end; ++row) {
      const int64_t count = std::clamp<int64_t>(row + 1, 0, strip.width);
      T* const to = strip.v() + row * strip.block->step;
      std::copy_n(strip_row(row), count, to);
      std::fill_n(to + count, strip.filled - count, T{0});
    }
  }

  const TallMatrix<T> matrix_;
  const int64_t panel_ = panel_kernels<T>().panel;
  ReflectorProduct<T> product_;
  const Scratch<T> vectors_, strip_;
  const Scratch<double> sums_;
  const Scratch<T> products_;
  T taken_[kStrip];
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
