#include "linalg/orthogonal.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <stdexcept>
#include <utility>

#include "core/parallel.hpp"
#include "linalg/reflector_product.hpp"
#include "random/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kSpread = 1 << 24;       // multiply-adds, up to which matrices are made one a thread
constexpr int64_t kSpreadGrain = 1 << 17;  // multiply-adds of them that are worth a thread
constexpr int64_t kSumRows = 128;          // rows that are drawn together, and whose squares are summed on their own
constexpr int64_t kWaveBytes = 8 << 20;    // of V, to stay in the last-level cache

// Consecutive standard normals, some of them drawn ahead.
template <class T> class Normals {
 public:
  Normals(const Stream& stream, uint64_t first) : stream_(stream), first_(first) {}

  // `count` normals from number `index` on, at most kMost. Those up to `limit` will be asked for, too.
  const T* read(int64_t index, int64_t count, int64_t limit) {
    if (index < begin_ || index + count > end_) {
      begin_ = index;
      end_ = std::min(index + kMost, limit);
      random_kernels().normal[static_cast<int>(kType)]({0, 1}, stream_, first_ + static_cast<uint64_t>(begin_),
                                                       end_ - begin_, numbers_);
    }
    return numbers_ + (index - begin_);
  }

 private:
  static constexpr auto kType = std::is_same_v<T, float> ? DType::f32 : DType::f64;
  static constexpr int64_t kMost = 4096;
  Stream stream_;
  uint64_t first_;
  int64_t begin_ = 0, end_ = 0;
  T numbers_[kMost];
};

// The reflectors of a Gaussian matrix's QR factorization, drawn as they are: what the factorization leaves of the
// next column is Gaussian again, and independent of all before (Stewart 1980). The coordinates of all columns from
// the diagonal down are consecutive normals, row after row.
template <class T> class Haar {
 public:
  Haar(const Orthogonal& matrix, int threads)
      : matrix_(matrix),
        tall_(matrix.view),
        product_(tall_.rows(), tall_.columns(), threads),
        waves_(make_waves()),
        vectors_(largest_wave([](const ReflectorBlock<T>& block) { return block.elements(); })),
        sums_(largest_wave([](const ReflectorBlock<T>& block) { return block.width; }) * chunks()) {}

  void operator()() {
    if (product_.rows() == product_.columns()) {  // the last column has no reflection, but it has a sign
      const int64_t last = numbers_before(product_.rows()) - 1;
      product_.signs().back() = std::copysign(T{1}, *normals().read(last, 1, last + 1));
    }
    Steps steps;
    for (const Wave& wave : waves_) {
      add_reflectors(steps, wave);
      product_.add_multiply(steps, wave.begin, wave.end);
    }
    product_.add_store(steps, tall_, matrix_.gain);
    steps.run(product_.threads());
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

  Normals<T> normals() const { return {matrix_.stream, matrix_.view.first_index}; }
  // In the rows above that one, from the diagonal down.
  int64_t numbers_before(int64_t row) const {
    const int64_t triangle = std::min(row, product_.columns());
    return triangle * (triangle + 1) / 2 + (row - triangle) * product_.columns();
  }
  int64_t chunks() const { return (product_.rows() + kSumRows - 1) / kSumRows; }

  void add_reflectors(Steps& steps, const Wave& wave) {
    // The last chunks first: they have the most numbers.
    steps.add(chunks(), [this, &wave](int64_t task, int) { draw_rows(wave, chunks() - 1 - task); });
    steps.add(1, [this, &wave](int64_t, int) {
      const double* sums = sums_.data();
      for (size_t b = wave.begin; b < wave.end; ++b) {
        finish(product_.blocks()[b], sums);
        sums += product_.blocks()[b].width * chunks();
      }
    });
    std::vector<std::pair<const ReflectorBlock<T>*, int64_t>> panels;  // of R
    T* memory = vectors_.data();
    for (size_t b = wave.begin; b < wave.end; ++b) {
      ReflectorBlock<T>& block = product_.blocks()[b];
      block.place(memory);
      memory += block.elements();
      for (int64_t column = 0; column < block.width; column += panel_kernels<T>().panel) {
        panels.emplace_back(&block, column);
      }
    }
    steps.add(std::ssize(panels), [panels](int64_t task, int) {
      const auto& [block, column] = panels[static_cast<size_t>(task)];
      fill_r(*block, column);
    });
  }

  // A chunk's rows of V, but for its pivots, and the sums of their columns' squares.
  void draw_rows(const Wave& wave, int64_t chunk) {
    const auto& blocks = product_.blocks();
    const int64_t begin = chunk * kSumRows, end = std::min(begin + kSumRows, product_.rows());
    // Where the wave has all blocks, its numbers go on from row to row.
    const bool goes_on = wave.begin == 0 && wave.end == blocks.size();
    const int64_t columns = wave.end == 0 ? 0 : blocks[wave.end - 1].first + blocks[wave.end - 1].width;
    Normals<T> normals = this->normals();
    for (int64_t row = begin; row < end; ++row) {
      const int64_t limit = goes_on ? numbers_before(end) : numbers_before(row) + std::min(row + 1, columns);
      for (size_t b = wave.begin; b < wave.end && blocks[b].first <= row; ++b) {
        const int64_t count = std::min(blocks[b].width, row - blocks[b].first + 1);
        T* const to = blocks[b].v + (row - blocks[b].first) * blocks[b].step;
        std::copy_n(normals.read(numbers_before(row) + blocks[b].first, count, limit), count, to);
        std::fill_n(to + count, blocks[b].step - count, T{0});
      }
    }
    double* sums = sums_.data();
    for (size_t b = wave.begin; b < wave.end; ++b) {
      const ReflectorBlock<T>& block = blocks[b];
      double* const to = sums + chunk * block.width;
      std::fill_n(to, block.width, 0.0);
      const int64_t first = std::max(begin - block.first, int64_t{0}), last = end - block.first;
      if (first < last) {
        panel_kernels<T>().add_squares(last - first, block.width, block.v + first * block.step, block.step, to);
      }
      sums += block.width * chunks();
    }
  }

  // A column of the result gets the sign that R's diagonal would have: as if that were positive, without which the
  // distribution is not uniform (Mezzadri 2007).
  void finish(const ReflectorBlock<T>& block, const double* sums) {
    for (int64_t i = 0; i < block.width; ++i) {
      double square = 0;
      for (int64_t chunk = 0; chunk < chunks(); ++chunk) square += sums[chunk * block.width + i];
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
  Steps steps;
  steps.add(std::ssize(small), [&](int64_t task, int) {
    try {
      fill_one(matrices[small[static_cast<size_t>(task)]], 1);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  });
  steps.run(usable_threads(threads, small_cost, kSpreadGrain));
  if (error) std::rethrow_exception(error);
}

}  // namespace pyinit
