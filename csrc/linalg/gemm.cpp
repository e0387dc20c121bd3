#include "linalg/gemm.hpp"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>
#include <utility>

#include "core/parallel.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kCacheLine = 64;
// What blocks may take: a panel of B shares the first cache with a few rows of A, a block of A has the second,
// and one of B a part of the last.
constexpr int64_t kPanelBytes = int64_t{16} << 10, kBlockBytes = int64_t{192} << 10, kPanelsBytes = int64_t{4} << 20;
constexpr int64_t kGrain = int64_t{1} << 19;  // multiply-adds that a thread is worth

int64_t divide_up(int64_t x, int64_t by) { return (x + by - 1) / by; }
int64_t round_up(int64_t x, int64_t to) { return divide_up(x, to) * to; }

// The size of equal blocks, multiples of `align`, of at most about `most`.
int64_t block_size(int64_t size, int64_t most, int64_t align) {
  const int64_t blocks = std::max<int64_t>(divide_up(size, std::max(most, align)), 1);
  return std::max(round_up(divide_up(size, blocks), align), align);
}

template <class T> struct Matrix {
  T* data;
  int64_t row, column;

  T& operator()(int64_t i, int64_t j) const { return data[i * row + j * column]; }
  Matrix from(int64_t i, int64_t j) const { return {&(*this)(i, j), row, column}; }
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

// Rows of `columns` elements side by side, at a distance of `out_row`.
template <class T> void pack(const Input<T>& in, int64_t rows, int64_t columns, T* out, int64_t out_row) {
  const Matrix<const T>& x = in.matrix;
  if (x.column == 1) {
    for (int64_t i = 0; i < rows; ++i) std::copy_n(&x(i, 0), columns, out + i * out_row);
  } else if (x.row == 1) {
    panel_kernels<T>().transpose(columns, rows, x.data, x.column, out, out_row);
  } else {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) out[i * out_row + j] = x(i, j);
    }
  }
  if (in.factor == 1) return;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) out[i * out_row + j] *= in.factor;
  }
}

// How one thread goes through a problem: blocks of A stay in the second cache while panels of B pass.
template <class T> class Blocks {
 public:
  Blocks(int64_t m, int64_t n, int64_t k) {
    constexpr int64_t size = sizeof(T);
    k_ = block_size(k, kPanelBytes / size / panel_, 8);
    m_ = block_size(m, kBlockBytes / size / k_, kernels_.rows);
    n_ = block_size(n, kPanelsBytes / size / k_, panel_);
    // Rows at a power of two would all meet in a few places of a cache.
    a_row_ = round_up(k_, kLine) + kLine;
  }

  int64_t scratch() const { return m_ * a_row_ + n_ * k_ + m_ * panel_; }

  void run(const Problem<T>& p, T* scratch) const {
    if (p.beta != 0 && p.beta != 1) scale(p);
    T* const a = scratch;
    T* const b = a + m_ * a_row_;
    T* const tile = b + n_ * k_;
    for (int64_t j = 0; j < p.n; j += n_) {
      const int64_t columns = std::min(n_, p.n - j);
      int64_t l = 0;
      do {  // even where k is 0
        const int64_t depth = std::min(k_, p.k - l);
        pack_panels(p.b.from(l, j), depth, columns, b);
        const Product product = l == 0 && p.beta == 0 ? Product::set : Product::add;
        for (int64_t i = 0; i < p.m; i += m_) {
          const int64_t rows = std::min(m_, p.m - i);
          pack(p.a.from(i, l), rows, depth, a, a_row_);
          multiply(product, rows, columns, depth, a, b, p.c.from(i, j), tile);
        }
        l += k_;
      } while (l < p.k);
    }
  }

 private:
  static constexpr int64_t kLine = kCacheLine / sizeof(T);

  static void scale(const Problem<T>& p) {
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t j = 0; j < p.n; ++j) p.c(i, j) *= p.beta;
    }
  }

  void pack_panels(const Input<T>& b, int64_t depth, int64_t columns, T* out) const {
    for (int64_t j = 0; j < columns; j += panel_, out += depth * panel_) {
      const int64_t width = std::min(panel_, columns - j);
      if (width < panel_) std::fill_n(out, depth * panel_, T{0});
      pack(b.from(0, j), depth, width, out, panel_);
    }
  }

  void multiply(Product product, int64_t rows, int64_t columns, int64_t depth, const T* a, const T* b,
                const Matrix<T>& c, T* tile) const {
    const auto function = kernels_.multiply[static_cast<int>(product)];
    const Factor<T> factor = {a, a_row_, 1};
    for (int64_t j = 0; j < columns; j += panel_, b += depth * panel_) {
      const Matrix<T> there = c.from(0, j);
      const int64_t width = std::min(panel_, columns - j);
      if (c.column == 1 && width == panel_) {
        function(rows, depth, factor, b, panel_, there.data, c.row);
        continue;
      }
      if (product == Product::add) {
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t x = 0; x < width; ++x) tile[i * panel_ + x] = there(i, x);
        }
      }
      function(rows, depth, factor, b, panel_, tile, panel_);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t x = 0; x < width; ++x) there(i, x) = tile[i * panel_ + x];
      }
    }
  }

  const PanelKernels<T>& kernels_ = panel_kernels<T>();
  const int64_t panel_ = kernels_.panel;
  int64_t m_, n_, k_, a_row_;
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

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
template <class T> std::unique_ptr<T, Free> allocate(int64_t count) {
  const int64_t bytes = round_up(count * static_cast<int64_t>(sizeof(T)), kCacheLine);
  std::unique_ptr<T, Free> memory(static_cast<T*>(std::aligned_alloc(kCacheLine, static_cast<size_t>(bytes))));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

template <class T>
void gemm(const ProductSize& size, T alpha, const Matrices<const T>& a, const Matrices<const T>& b, T beta,
          const Matrices<T>& c, int threads) {
  if (size.batch == 0 || size.m == 0 || size.n == 0) return;
  const auto problem = [&](int64_t l) {
    const Problem<T> p = {size.m,
                          size.n,
                          size.k,
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
  const auto memory = allocate<T>(most * scratch);

  parallel_ranges(most, most, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      for (int64_t task = tasks * thread / most; task < tasks * (thread + 1) / most; ++task) {
        const Problem<T> p = problem(task / parts);
        const int64_t i = task % parts / grid.parts_n * grid.rows, j = task % parts % grid.parts_n * grid.columns;
        if (i >= p.m || j >= p.n) continue;
        blocks.run(p.part(i, std::min(grid.rows, p.m - i), j, std::min(grid.columns, p.n - j)),
                   memory.get() + thread * scratch);
      }
    }
  });
}

template void gemm<float>(const ProductSize&, float, const Matrices<const float>&, const Matrices<const float>&, float,
                          const Matrices<float>&, int);
template void gemm<double>(const ProductSize&, double, const Matrices<const double>&, const Matrices<const double>&,
                           double, const Matrices<double>&, int);

}  // namespace pyinit
