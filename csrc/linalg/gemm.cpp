#include "linalg/gemm.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kCacheLine = 64;
// What blocks may take: a panel of B shares the first cache with a few rows of A, a block of A has the second,
// and one of B a part of the last.
constexpr int64_t kPanelBytes = int64_t{24} << 10, kBlockBytes = int64_t{192} << 10, kPanelsBytes = int64_t{4} << 20;
// Copies pay where they are read often: A's by more columns of B than these, B's by more slices of A; the latter
// only if the rows of B lie too far apart for a cache.
constexpr int64_t kFewColumns = 256, kFewSlices = 2, kSmallBytes = int64_t{64} << 10;
constexpr int64_t kRowsPacked = 8;            // at a time, so that what is read lies side by side
constexpr int64_t kGrain = int64_t{1} << 18;  // multiply-adds that a thread is worth

// The size of equal blocks, multiples of `align`, of at most about `most`.
int64_t block_size(int64_t size, int64_t most, int64_t align) {
  const int64_t blocks = std::max<int64_t>(divide_up(size, std::max(most, align)), 1);
  return std::max(round_up(divide_up(size, blocks), align), align);
}

template <class T> struct Matrix {
  T* data;
  int64_t row, column;

  T& operator()(int64_t i, int64_t j) const { return data[i * row + j * column]; }
  Matrix from(int64_t i, int64_t j) const { return {data + i * row + j * column, row, column}; }
  Matrix transposed() const { return {data, column, row}; }
};

// An input, with the factor that its elements are to be multiplied by.
template <class T> struct Input {
  Matrix<const T> matrix;
  T factor;

  Input from(int64_t i, int64_t j) const { return {matrix.from(i, j), factor}; }
  Input transposed() const { return {matrix.transposed(), factor}; }
};

// C = AB + beta C, and its parts.
template <class T> struct Problem {
  int64_t m, n, k;
  Input<T> a, b;
  T beta;
  Matrix<T> c;

  Problem transposed() const { return {n, m, k, b.transposed(), a.transposed(), beta, c.transposed()}; }
  Problem part(int64_t i, int64_t rows, int64_t j, int64_t columns) const {
    return {rows, columns, k, a.from(i, 0), b.from(0, j), beta, c.from(i, j)};
  }
};

// Slices of A, as wide as a register tile has rows, or panels of B: element i of row l of strip number s stands at
// data[s * next + l * along + i * across].
template <class T> struct Strips {
  const T* data;
  int64_t next, along, across;
};

// Strips of `width` of the `count` columns, row after row, zeros where there are no more columns.
template <class T> Strips<T> pack(const Input<T>& in, int64_t depth, int64_t count, int64_t width, T* out) {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const Matrix<const T>& x = in.matrix;
  const int64_t strip = depth * width;
  const auto columns_from = [&](int64_t j) { return std::min(width, count - j); };
  if (count % width != 0) std::fill_n(out + count / width * strip, strip, T{0});
  if (x.column == 1) {
    for (int64_t l = 0; l < depth; l += kRowsPacked) {
      const int64_t rows = std::min(kRowsPacked, depth - l);
      for (int64_t j = 0; j < count; j += width) {
        kernels.copy(rows, columns_from(j), &x(l, j), x.row, out + j / width * strip + l * width, width);
      }
    }
  } else {
    for (int64_t j = 0; j < count; j += width) {
      T* const to = out + j / width * strip;
      if (x.row == 1) {
        kernels.transpose(columns_from(j), depth, &x(0, j), x.column, to, width);
      } else {
        for (int64_t l = 0; l < depth; ++l) {
          for (int64_t i = 0; i < columns_from(j); ++i) to[l * width + i] = x(l, j + i);
        }
      }
    }
  }
  if (in.factor != 1) {
    for (int64_t i = 0; i < divide_up(count, width) * strip; ++i) out[i] *= in.factor;
  }
  return {out, strip, width, 1};
}

// How one thread goes through a problem: blocks of A stay in the second cache while panels of B pass.
template <class T> class Blocks {
 public:
  Blocks(int64_t m, int64_t n, int64_t k) {
    constexpr int64_t size = sizeof(T);
    k_ = block_size(k, kPanelBytes / size / panel_, 8);
    m_ = block_size(m, kBlockBytes / size / k_, rows_);
    n_ = block_size(n, kPanelsBytes / size / k_, panel_);
  }

  int64_t scratch() const { return m_ * k_ + n_ * k_ + m_ * panel_; }

  void run(const Problem<T>& p, T* scratch, Lookout& lookout) const {
    if (p.beta != 0 && p.beta != 1) scale(p, lookout);
    T* const packed_a = scratch;
    T* const packed_b = packed_a + m_ * k_;
    T* const tile = packed_b + n_ * k_;
    for (int64_t j = 0; j < p.n; j += n_) {
      const int64_t columns = std::min(n_, p.n - j);
      int64_t l = 0;
      do {  // even where k is 0
        const int64_t depth = std::min(k_, p.k - l);
        const Input<T> in_b = p.b.from(l, j);
        const bool b_stays = (p.m <= kFewSlices * rows_ || is_small(in_b, depth)) && in_b.factor == 1 &&
                             in_b.matrix.column == 1 && columns % panel_ == 0;
        const Strips<T> b = b_stays ? as_it_is(in_b, panel_) : pack(in_b, depth, columns, panel_, packed_b);
        const Product product = l == 0 && p.beta == 0 ? Product::set : Product::extend;
        for (int64_t i = 0; i < p.m; i += m_) {
          const int64_t rows = std::min(m_, p.m - i);
          const Input<T> in_a = p.a.from(i, l).transposed();
          const bool a_stays = columns <= kFewColumns && in_a.factor == 1 && in_a.matrix.row == 1;
          const Strips<T> a = a_stays ? as_it_is(in_a, rows_) : pack(in_a, depth, rows, rows_, packed_a);
          multiply(product, rows, columns, depth, a, b, p.c.from(i, j), tile);
          lookout.after(rows * columns * depth);
        }
        l += k_;
      } while (l < p.k);
    }
  }

 private:
  static void scale(const Problem<T>& p, Lookout& lookout) {
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t j = 0; j < p.n; ++j) p.c(i, j) *= p.beta;
      lookout.after(p.n);
    }
  }

  static bool is_small(const Input<T>& in, int64_t depth) {
    return depth * std::abs(in.matrix.row) <= kSmallBytes / int64_t{sizeof(T)};
  }

  static Strips<T> as_it_is(const Input<T>& in, int64_t width) {
    const Matrix<const T>& x = in.matrix;
    return {x.data, width * x.column, x.row, x.column};
  }

  void multiply(Product product, int64_t rows, int64_t columns, int64_t depth, const Strips<T>& a, Strips<T> b,
                const Matrix<T>& c, T* tile) const {
    for (int64_t j = 0; j < columns; j += panel_, b.data += b.next) {
      const Matrix<T> there = c.from(0, j);
      const int64_t width = std::min(panel_, columns - j);
      if (c.column == 1 && width == panel_) {
        multiply(product, rows, depth, a, b, there.data, c.row);
        continue;
      }
      if (product == Product::extend) {
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t x = 0; x < width; ++x) tile[i * panel_ + x] = there(i, x);
        }
      }
      multiply(product, rows, depth, a, b, tile, panel_);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t x = 0; x < width; ++x) there(i, x) = tile[i * panel_ + x];
      }
    }
  }

  // All slices and one panel.
  void multiply(Product product, int64_t rows, int64_t depth, const Strips<T>& a, const Strips<T>& b, T* c,
                int64_t c_row) const {
    const auto function = kernels_.multiply[static_cast<int>(product)];
    const T* slice = a.data;
    for (int64_t i = 0; i < rows; i += rows_, slice += a.next) {
      function(std::min(rows_, rows - i), depth, {slice, a.across, a.along}, b.data, b.along, c + i * c_row, c_row);
    }
  }

  const PanelKernels<T>& kernels_ = panel_kernels<T>();
  const int64_t rows_ = kernels_.rows, panel_ = kernels_.panel;
  int64_t m_, n_, k_;
};

// A division of C into equal parts, as many as asked for.
struct Grid {
  int64_t parts_m, parts_n, rows, columns;  // rows, columns: of a part

  template <class T> Grid(const Problem<T>& p, int64_t parts) {
    // A row or column more has to be packed, which takes as long as this many multiply-adds of each element.
    constexpr int64_t kPacking = 8;
    int64_t least = INT64_MAX;
    for (int64_t m = 1; m <= parts; ++m) {
      if (parts % m != 0) continue;
      const int64_t i = block_size(p.m, divide_up(p.m, m), panel_kernels<T>().rows);
      const int64_t j = block_size(p.n, divide_up(p.n, parts / m), panel_kernels<T>().panel);
      const int64_t cost = i * j + kPacking * (i + j);
      if (cost >= least) continue;
      least = cost;
      *this = {m, parts / m, i, j};
    }
  }

 private:
  Grid(int64_t parts_m, int64_t parts_n, int64_t rows, int64_t columns)
      : parts_m(parts_m), parts_n(parts_n), rows(rows), columns(columns) {}
};

}  // namespace

template <class T>
void gemm(const ProductSize& size, T alpha, const Matrices<const T>& a, const Matrices<const T>& b, T beta,
          const Matrices<T>& c, int threads) {
  if (size.batch == 0 || size.m == 0 || size.n == 0) return;
  const auto problem = [&](int64_t l) {
    const Problem<T> p = {size.m,
                          size.n,
                          alpha == 0 ? 0 : size.k,
                          {{a.data + l * a.matrix, a.row, a.column}, alpha},
                          {{b.data + l * b.matrix, b.row, b.column}, 1},
                          beta,
                          {c.data + l * c.matrix, c.row, c.column}};
    return c.row == 1 && c.column != 1 ? p.transposed() : p;
  };

  const double work = static_cast<double>(size.m) * static_cast<double>(size.n) * static_cast<double>(size.k) *
                      static_cast<double>(size.batch);
  const int most = usable_threads(threads, static_cast<int64_t>(std::min(work, 1e18)), kGrain);
  // Many matrices go to the threads whole; few in as many parts as give all threads the same.
  const int64_t parts = size.batch >= 4 * most ? 1 : most / std::gcd(size.batch, int64_t{most});
  const Grid grid(problem(0), parts);
  const int64_t tasks = size.batch * parts;
  const Blocks<T> blocks(grid.rows, grid.columns, size.k);
  const int64_t scratch = round_up(blocks.scratch(), kCacheLine);
  const Scratch<T> memory(most * scratch);

  parallel_ranges(most, most, 1, [&](int64_t begin, int64_t end) {
    Lookout lookout;
    for (int64_t thread = begin; thread < end; ++thread) {
      for (int64_t task = tasks * thread / most; task < tasks * (thread + 1) / most; ++task) {
        const Problem<T> p = problem(task / parts);
        const int64_t i = task % parts / grid.parts_n * grid.rows, j = task % parts % grid.parts_n * grid.columns;
        if (i >= p.m || j >= p.n) continue;
        blocks.run(p.part(i, std::min(grid.rows, p.m - i), j, std::min(grid.columns, p.n - j)),
                   memory.data() + thread * scratch, lookout);
      }
    }
  });
}

template void gemm<float>(const ProductSize&, float, const Matrices<const float>&, const Matrices<const float>&, float,
                          const Matrices<float>&, int);
template void gemm<double>(const ProductSize&, double, const Matrices<const double>&, const Matrices<const double>&,
                           double, const Matrices<double>&, int);

}  // namespace pyinit
