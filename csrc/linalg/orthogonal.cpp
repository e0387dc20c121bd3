#include "linalg/orthogonal.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <numeric>
#include <stdexcept>

#include "core/parallel.hpp"
#include "linalg/reflectors.hpp"
#include "random/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = 2'000'000;          // multiply-adds, worth a thread
constexpr int64_t kSpread = 1 << 24;           // multiply-adds, up to which matrices are made one a thread
constexpr int64_t kSumRows = 512;              // rows whose squares are summed on their own
constexpr int64_t kWaveBytes = 8 << 20;        // of V, to stay in the last-level cache
constexpr int64_t kResidentBytes = 256 << 10;  // of panels, to stay in the second-level cache

// Gaussian columns and the reflectors of their QR factorization, drawn as they are: the factorization would leave
// the rest of each next column Gaussian and independent (Stewart 1980).
template <class T> class Haar {
 public:
  Haar(const Orthogonal& matrix, int threads)
      : stream_(matrix.stream),
        first_index_(matrix.view.first_index),
        gain_(matrix.gain),
        tall_(matrix.view),
        rows_(tall_.rows()),
        columns_(tall_.columns()),
        panel_(panel_kernels<T>().panel),
        panels_((columns_ + panel_ - 1) / panel_),
        threads_(usable_threads(threads, rows_ * columns_ * columns_, kGrain)),
        groups_(group_count()),
        blocks_(reflector_blocks<T>(rows_, std::min(columns_, rows_ - 1))),
        waves_(make_waves()),
        w_size_((panels_ + groups_ - 1) / groups_ * panel_ * (blocks_.empty() ? 0 : blocks_[0].step)),
        q_(panels_ * panel_ * rows_),
        w_(w_size_ * threads_),
        v_(largest_wave([](const ReflectorBlock<T>& block) { return block.elements(); })),
        sums_(largest_wave([](const ReflectorBlock<T>& block) { return chunks(block) * block.width; })),
        signs_(static_cast<size_t>(columns_)) {}

  void operator()() {
    if (rows_ == columns_) {  // a reflection of one dimension is a sign
      T last;
      draw(rows_ * columns_ - 1, 1, &last);
      signs_.back() = std::copysign(T{1}, last);
    }
    if (waves_.empty()) parallel_tasks(threads_, groups_, [&](int64_t group, int) { start(group); });
    for (const Wave& wave : waves_) {
      draw_reflectors(wave);
      parallel_tasks(threads_, groups_, [&](int64_t group, int thread) {
        if (&wave == &waves_.front()) start(group);
        for (size_t b = wave.end; b-- > wave.begin;) multiply_group(b, group, w_.data() + thread * w_size_);
      });
    }
    parallel_ranges(threads_, rows_, kRowAlignment,
                    [&](int64_t begin, int64_t end) { tall_.store_rows(q_.data(), begin, end, gain_); });
  }

 private:
  static constexpr int64_t kRowAlignment = 64;
  struct Wave {
    size_t begin, end;  // blocks
  };

  // A group of panels goes through all blocks of a wave before the next one does. Panels that fit into the cache
  // make groups of as many as fit; of larger ones each thread has one group, and reads V once for all of them.
  int64_t group_count() const {
    const int64_t bytes = panel_ * rows_ * static_cast<int64_t>(sizeof(T));
    const int64_t rounds = bytes > kResidentBytes ? 1 : panels_ * bytes / kResidentBytes / threads_ + 1;
    return std::min(panels_, rounds * threads_);
  }
  // From the last block to the first, as many together as the cache holds.
  std::vector<Wave> make_waves() const {
    std::vector<Wave> waves;
    int64_t bytes = 0;
    for (size_t b = blocks_.size(); b-- > 0;) {
      const int64_t more = blocks_[b].elements() * static_cast<int64_t>(sizeof(T));
      bytes += more;
      if (waves.empty() || bytes > kWaveBytes) {
        waves.push_back({b, b + 1});
        bytes = more;
      }
      waves.back().begin = b;
    }
    return waves;
  }
  template <class Of> int64_t largest_wave(Of&& of) const {
    int64_t largest = 0;
    for (const Wave& wave : waves_) {
      int64_t sum = 0;
      for (size_t b = wave.begin; b < wave.end; ++b) sum += of(blocks_[b]);
      largest = std::max(largest, sum);
    }
    return largest;
  }
  static int64_t chunks(const ReflectorBlock<T>& block) { return (block.rows + kSumRows - 1) / kSumRows; }

  // The standard normals of the tall matrix, row after row, from element `first` on.
  void draw(int64_t first, int64_t count, T* to) const {
    constexpr auto kType = std::is_same_v<T, float> ? DType::f32 : DType::f64;
    random_kernels().normal[static_cast<int>(kType)]({0, 1}, stream_, first_index_ + static_cast<uint64_t>(first),
                                                     count, to);
  }

  void draw_reflectors(const Wave& wave) {
    struct Part {
      ReflectorBlock<T>* block;
      int64_t at;
      double* sums;
    };
    std::vector<Part> chunk_parts, panel_parts;
    T* memory = v_.data();
    double* sums = sums_.data();
    for (size_t b = wave.begin; b < wave.end; ++b) {
      ReflectorBlock<T>& block = blocks_[b];
      block.place(memory);
      memory += block.elements();
      for (int64_t column = 0; column < block.width; column += panel_) panel_parts.push_back({&block, column, sums});
      for (int64_t row = 0; row < block.rows; row += kSumRows) {
        chunk_parts.push_back({&block, row, sums});
        sums += block.width;
      }
    }
    parallel_tasks(threads_, std::ssize(chunk_parts), [&](int64_t i, int) {
      const Part& part = chunk_parts[static_cast<size_t>(i)];
      draw_rows(*part.block, part.at, std::min(part.at + kSumRows, part.block->rows), part.sums);
    });
    for (const Part& part : panel_parts) {
      if (part.at == 0) finish(*part.block, part.sums);
    }
    parallel_tasks(threads_, std::ssize(panel_parts), [&](int64_t i, int) {
      const Part& part = panel_parts[static_cast<size_t>(i)];
      fill_r(*part.block, part.at);
    });
  }

  // Rows of V, but for its pivots, and the sums of their columns' squares.
  void draw_rows(const ReflectorBlock<T>& block, int64_t begin, int64_t end, double* sums) const {
    if (block.step == columns_) {
      draw((block.first + begin) * columns_, (end - begin) * columns_, block.v + begin * block.step);
    } else {
      for (int64_t row = begin; row < end; ++row) {
        T* const to = block.v + row * block.step;
        draw((block.first + row) * columns_ + block.first, block.width, to);
        std::fill(to + block.width, to + block.step, T{0});
      }
    }
    for (int64_t row = begin; row < std::min(end, block.width); ++row) {
      T* const to = block.v + row * block.step;
      std::fill(to + row + 1, to + block.width, T{0});
    }
    std::fill(sums, sums + block.width, 0.0);
    panel_kernels<T>().add_squares(end - begin, block.width, block.v + begin * block.step, block.step, sums);
  }

  // The pivots. The reflection by v = x + sign(x1) |x| e1 takes x to -sign(x1) |x| e1. A column of the result gets
  // that sign, as if R's diagonal were made positive: without it the distribution is not uniform (Mezzadri 2007).
  void finish(const ReflectorBlock<T>& block, const double* sums) {
    for (int64_t i = 0; i < block.width; ++i) {
      double square = 0;
      for (int64_t chunk = 0; chunk < chunks(block); ++chunk) square += sums[chunk * block.width + i];
      T& pivot = block.v[i * (block.step + 1)];
      const double x1 = static_cast<double>(pivot);
      pivot = square > 0 ? static_cast<T>(x1 + std::copysign(std::sqrt(square), x1)) : T{1};
      const double v1 = static_cast<double>(pivot);
      block.reciprocals[i] = static_cast<T>(2 / (square - x1 * x1 + v1 * v1));
      signs_[static_cast<size_t>(block.first + i)] = static_cast<T>(std::copysign(1.0, -x1));
    }
  }

  // Calls f(panel) for the panels of a group, which are far apart: those on the right take part in more blocks.
  template <class F> void for_each_panel(int64_t group, F&& f) const {
    for (int64_t panel = group; panel < panels_; panel += groups_) f(panel);
  }

  // The identity, but for signs.
  void start(int64_t group) {
    for_each_panel(group, [&](int64_t panel) {
      T* const q = q_.data() + panel * panel_ * rows_;
      std::fill(q, q + panel_ * rows_, T{0});
      for (int64_t j = 0; j < panel_ && panel * panel_ + j < columns_; ++j) {
        const int64_t column = panel * panel_ + j;
        q[column * panel_ + j] = signs_[static_cast<size_t>(column)];
      }
    });
  }

  void multiply_group(size_t b, int64_t group, T* w) const {
    const ReflectorBlock<T>& block = blocks_[b];
    std::vector<PanelPart<T>> parts;
    for_each_panel(group, [&](int64_t panel) {
      const int64_t first = panel * panel_, last = std::min(first + panel_, columns_);
      if (last <= block.first) return;  // zero from the block's first row on
      // A block further on has filled all rows from its first on.
      const bool is_full = b + 1 < blocks_.size() && blocks_[b + 1].first < last;
      const int64_t begin = is_full ? std::min(first, blocks_[b + 1].first) : first;
      parts.push_back({q_.data() + first * rows_ + block.first * panel_, std::max(begin, block.first) - block.first,
                       (is_full ? rows_ : last) - block.first});
    });
    if (!parts.empty()) apply(block, Side::product, parts, w);
  }

  const Stream stream_;
  const uint64_t first_index_;
  const double gain_;
  const TallView tall_;
  const int64_t rows_, columns_, panel_, panels_;
  const int threads_;
  const int64_t groups_;
  std::vector<ReflectorBlock<T>> blocks_;
  const std::vector<Wave> waves_;
  const int64_t w_size_;  // elements for a group
  Scratch<T> q_, w_, v_;
  Scratch<double> sums_;
  std::vector<T> signs_;
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
