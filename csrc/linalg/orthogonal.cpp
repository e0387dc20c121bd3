#include "linalg/orthogonal.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <numeric>
#include <stdexcept>

#include "core/parallel.hpp"
#include "linalg/reflector_product.hpp"
#include "random/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = 500'000;      // multiply-adds, worth a thread
constexpr int64_t kSpread = 1 << 24;     // multiply-adds, up to which matrices are made one a thread
constexpr int64_t kSumRows = 512;        // rows whose squares are summed on their own
constexpr int64_t kWaveBytes = 8 << 20;  // of V, to stay in the last-level cache

// The reflectors of a Gaussian matrix's QR factorization, drawn as they are: what the factorization leaves of the
// next column is Gaussian again, and independent of all before (Stewart 1980).
template <class T> class Haar {
 public:
  Haar(const Orthogonal& matrix, int threads)
      : matrix_(matrix),
        tall_(matrix.view),
        product_(tall_.rows(), tall_.columns(), threads),
        waves_(make_waves()),
        vectors_(largest_wave([](const ReflectorBlock<T>& block) { return block.elements(); })),
        sums_(largest_wave([](const ReflectorBlock<T>& block) { return chunks(block) * block.width; })) {}

  void operator()() {
    if (product_.rows() == product_.columns()) {  // the last column has no reflection, but it has a sign
      T last;
      draw(numbers_of_columns(product_.columns() - 1), 1, &last);
      product_.signs().back() = std::copysign(T{1}, last);
    }
    for (const Wave& wave : waves_) {
      draw_reflectors(wave);
      product_.multiply(wave.begin, wave.end);
    }
    product_.store(tall_, matrix_.gain);
  }

 private:
  struct Wave {
    size_t begin, end;  // blocks
  };

  // From the last block to the first, as many together as the cache holds.
  std::vector<Wave> make_waves() {
    const auto& blocks = product_.blocks();
    std::vector<Wave> waves;
    int64_t bytes = 0;
    for (size_t b = blocks.size(); b-- > 0;) {
      const int64_t more = blocks[b].elements() * static_cast<int64_t>(sizeof(T));
      bytes += more;
      if (waves.empty() || bytes > kWaveBytes) {
        waves.push_back({b, b + 1});
        bytes = more;
      }
      waves.back().begin = b;
    }
    if (waves.empty()) waves.push_back({0, 0});
    return waves;
  }
  template <class Of> int64_t largest_wave(Of&& of) {
    int64_t largest = 0;
    for (const Wave& wave : waves_) {
      int64_t sum = 0;
      for (size_t b = wave.begin; b < wave.end; ++b) sum += of(product_.blocks()[b]);
      largest = std::max(largest, sum);
    }
    return largest;
  }
  static int64_t chunks(const ReflectorBlock<T>& block) { return (block.rows + kSumRows - 1) / kSumRows; }

  // The coordinates of the Gaussian columns before `column` from the diagonal down.
  int64_t numbers_of_columns(int64_t column) const { return column * product_.rows() - column * (column - 1) / 2; }

  // The standard normals from number `first` of the matrix on.
  void draw(int64_t first, int64_t count, T* to) const {
    constexpr auto kType = std::is_same_v<T, float> ? DType::f32 : DType::f64;
    random_kernels().normal[static_cast<int>(kType)](
        {0, 1}, matrix_.stream, matrix_.view.first_index + static_cast<uint64_t>(first), count, to);
  }

  void draw_reflectors(const Wave& wave) {
    struct Part {
      ReflectorBlock<T>* block;
      int64_t at;
      double* sums;
    };
    std::vector<Part> chunk_parts, panel_parts;
    T* memory = vectors_.data();
    double* sums = sums_.data();
    for (size_t b = wave.begin; b < wave.end; ++b) {
      ReflectorBlock<T>& block = product_.blocks()[b];
      block.place(memory);
      memory += block.elements();
      for (int64_t column = 0; column < block.width; column += panel_kernels<T>().panel)
        panel_parts.push_back({&block, column, sums});
      for (int64_t row = 0; row < block.rows; row += kSumRows) {
        chunk_parts.push_back({&block, row, sums});
        sums += block.width;
      }
    }
    parallel_tasks(product_.threads(), std::ssize(chunk_parts), [&](int64_t i, int) {
      const Part& part = chunk_parts[static_cast<size_t>(i)];
      draw_rows(*part.block, part.at, std::min(part.at + kSumRows, part.block->rows), part.sums);
    });
    for (const Part& part : panel_parts) {
      if (part.at == 0) finish(*part.block, part.sums);
    }
    parallel_tasks(product_.threads(), std::ssize(panel_parts), [&](int64_t i, int) {
      const Part& part = panel_parts[static_cast<size_t>(i)];
      fill_r(*part.block, part.at);
    });
  }

  // Rows of V, but for its pivots, and the sums of their columns' squares. The reflectors' numbers, block after block
  // and row after row, are consecutive normals.
  void draw_rows(const ReflectorBlock<T>& block, int64_t begin, int64_t end, double* sums) const {
    const auto numbers_before = [&](int64_t row) {
      const int64_t triangle = std::min(row, block.width);
      return triangle * (triangle + 1) / 2 + (row - triangle) * block.width;
    };
    T* const rows = block.v + begin * block.step;
    const int64_t first = numbers_before(begin);
    draw(numbers_of_columns(block.first) + first, numbers_before(end) - first, rows);
    // They lie side by side now. From the last row on, each goes to its place.
    for (int64_t row = end; row-- > begin;) {
      const T* const from = rows + numbers_before(row) - first;
      T* const to = rows + (row - begin) * block.step;
      const int64_t count = std::min(row + 1, block.width);
      if (to != from) std::memmove(to, from, static_cast<size_t>(count) * sizeof(T));
      std::fill(to + count, to + block.step, T{0});
    }
    std::fill(sums, sums + block.width, 0.0);
    panel_kernels<T>().add_squares(end - begin, block.width, block.v + begin * block.step, block.step, sums);
  }

  // A column of the result gets the sign that R's diagonal would have: as if that were positive, without which the
  // distribution is not uniform (Mezzadri 2007).
  void finish(const ReflectorBlock<T>& block, const double* sums) {
    for (int64_t i = 0; i < block.width; ++i) {
      double square = 0;
      for (int64_t chunk = 0; chunk < chunks(block); ++chunk) square += sums[chunk * block.width + i];
      T& x1 = block.v[i * (block.step + 1)];
      const Pivot<T> pivot = make_pivot(x1, square);
      x1 = pivot.v1;
      block.reciprocals[i] = pivot.reciprocal;
      product_.signs()[static_cast<size_t>(block.first + i)] = pivot.sign;
    }
  }

  const Orthogonal& matrix_;
  const TallView tall_;
  ReflectorProduct<T> product_;
  const std::vector<Wave> waves_;
  const Scratch<T> vectors_;
  const Scratch<double> sums_;
};

void fill_one(const Orthogonal& matrix, int threads) {
  if (matrix.view.dtype == DType::f64) {
    Haar<double>(matrix, threads)();
  } else {
    Haar<float>(matrix, threads)();
  }
}

// Multiply-adds, roughly.
int64_t cost(const View& view) {
  const int64_t rows = view.dims[0].size, columns = view.count() / rows;
  return rows * columns * std::min(rows, columns);
}

}  // namespace

void fill_orthogonal(const std::vector<Orthogonal>& matrices, int threads) {
  std::vector<size_t> small, large;
  int64_t small_cost = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const View& view = matrices[i].view;
    if (view.dims.size() < 2) throw std::invalid_argument("shape: needs two dimensions or more");
    if (view.count() == 0) continue;
    const bool is_large = matrices.size() == 1 || cost(view) > kSpread;
    (is_large ? large : small).push_back(i);
    if (!is_large) small_cost += cost(view);
  }
  for (const size_t i : large) fill_one(matrices[i], threads);
  // The longest first, so that no thread is left with one at the end.
  std::stable_sort(small.begin(), small.end(),
                   [&](size_t a, size_t b) { return cost(matrices[a].view) > cost(matrices[b].view); });
  std::exception_ptr error;
  std::atomic<bool> failed{false};
  parallel_tasks(usable_threads(threads, small_cost, kGrain / 4), std::ssize(small), [&](int64_t i, int) {
    try {
      fill_one(matrices[small[static_cast<size_t>(i)]], 1);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace pyinit
