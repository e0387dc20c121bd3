#include "linalg/orthogonal.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "linalg/drawn_reflectors.hpp"
#include "linalg/reflector_product.hpp"

namespace pyinit {
namespace {

constexpr int64_t kTall = 4;  // times the columns: rows from which on one block is better
constexpr int64_t kFair = 4;  // of many matrices, one thread makes those below its share of all work divided by this
constexpr int64_t kSpreadGrain = 1 << 17;  // multiply-adds of them that are worth a thread
constexpr int64_t kWaveBytes = 8 << 20;    // of V, to stay in the last-level cache

// As many reflectors at a time as the cache holds, applied to all columns so far.
template <class T> class InBlocks {
 public:
  InBlocks(const Orthogonal& matrix, const TallView& to, int threads)
      : to_(to),
        gain_(matrix.gain),
        product_(to.rows(), to.columns(), threads),
        waves_(make_waves()),
        reflectors_(matrix.stream, matrix.view.first_index, to.rows(), to.columns(),
                    largest_wave([](const ReflectorBlock<T>& block) { return block.width; })),
        vectors_(largest_wave([](const ReflectorBlock<T>& block) { return block.elements(); })) {}

  void operator()() {
    const ReflectorBlock<T>* const blocks = product_.blocks().data();
    if (product_.rows() == product_.columns()) product_.signs().back() = reflectors_.last_sign();
    Steps steps;
    for (const Wave& wave : waves_) {
      reflectors_.add(steps, blocks + wave.begin, blocks + wave.end, product_.signs().data());
      add_r(steps, wave);
      product_.add_multiply(steps, wave.begin, wave.end);
    }
    product_.add_store(steps, to_, gain_);
    steps.run(product_.threads());
  }

 private:
  struct Wave {
    size_t begin, end;  // blocks
  };

  // From the last block to the first.
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

  void add_r(Steps& steps, const Wave& wave) {
    const int64_t panel = panel_kernels<T>().panel;
    std::vector<std::pair<const ReflectorBlock<T>*, int64_t>> panels;
    T* memory = vectors_.data();
    for (size_t b = wave.begin; b < wave.end; ++b) {
      ReflectorBlock<T>& block = product_.blocks()[b];
      block.place(memory);
      memory += block.elements();
      for (int64_t p = 0; p < block.step / panel; ++p) panels.emplace_back(&block, p);
    }
    steps.add(std::ssize(panels), [panels, panel](int64_t task, int) {
      const auto& [block, p] = panels[static_cast<size_t>(task)];
      fill_r(*block, p, block->step / panel);
    });
  }

  const TallView& to_;
  const double gain_;
  ReflectorProduct<T> product_;
  const std::vector<Wave> waves_;
  DrawnReflectors<T> reflectors_;
  const Scratch<T> vectors_;
};

// All reflectors as one block, Q = [I] D - V X with X = R^-1 V'[I] D: a little more arithmetic, and V is read but
// twice.
template <class T> class InOneBlock {
 public:
  InOneBlock(const Orthogonal& matrix, const TallView& to, int threads)
      : to_(to),
        gain_(matrix.gain),
        threads_(reflector_threads(threads, to.rows(), to.columns())),
        panels_(divide_up(to.columns(), panel_)),
        block_{0, to.columns(), to.rows(), row_step(), nullptr, nullptr, nullptr},
        reflectors_(matrix.stream, matrix.view.first_index, to.rows(), to.columns(), to.columns()),
        vectors_(block_.elements()),
        x_(block_.step * block_.step),
        rows_(threads_ * kStoredRows * block_.step),
        signs_(static_cast<size_t>(block_.step)) {
    block_.place(vectors_.data());
  }

  void operator()() {
    Steps steps;
    reflectors_.add(steps, &block_, &block_ + 1, signs_.data());
    const int64_t groups = std::min<int64_t>(panels_, 2 * threads_);
    // The last panels first: they have the most rows.
    steps.add(groups, [this, groups](int64_t task, int) { fill_r(block_, groups - 1 - task, groups); });
    steps.add(panels_, [this](int64_t task, int) { solve(panels_ - 1 - task); });
    const int64_t rows = stored_rows();
    steps.add(divide_up(block_.rows, rows), [this, rows](int64_t task, int thread) {
      store(task * rows, std::min((task + 1) * rows, block_.rows), rows_.data() + thread * kStoredRows * block_.step);
    });
    steps.run(threads_);
  }

 private:
  static constexpr int64_t kStoredRows = 96;          // at most, by one task
  static constexpr int64_t kStoredBytes = 256 << 10;  // of V, to stay in the second-level cache
  static constexpr int64_t kSum = 192;                // products that are summed on their own

  // Rows at a distance of many cache lines, a power of two, would take one another's place in the caches.
  int64_t row_step() const { return panels_ * panel_ + (panels_ * panel_ % 64 == 0 ? panel_ : 0); }
  int64_t stored_rows() const {
    const int64_t tile = panel_kernels<T>().rows;
    const int64_t rows = kStoredBytes / static_cast<int64_t>(sizeof(T)) / block_.step;
    return std::clamp(rows / tile * tile, tile, kStoredRows);
  }
  T* x_of(int64_t panel) const { return x_.data() + panel * panel_ * block_.step; }
  int64_t last_column(int64_t panel) const { return std::min((panel + 1) * panel_, block_.width); }

  // A panel of X. Its columns take part in the reflections up to their own.
  void solve(int64_t panel) {
    const int64_t first = panel * panel_, height = last_column(panel), last = height - 1;
    T* const x = x_of(panel);
    if (first + panel_ > height) std::fill_n(x, height * panel_, T{0});
    panel_kernels<T>().transpose(height - first, height, block_.v + first * block_.step, block_.step, x, panel_);
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t j = 0; j < panel_; ++j) x[i * panel_ + j] *= signs_[static_cast<size_t>(first + j)];
    }
    panel_kernels<T>().solve(height, {block_.r + last * (block_.step + 1), -block_.step, -1}, x + last * panel_,
                             -panel_);
    Lookout().after(height * height * panel_ / 2);
  }

  void store(int64_t begin, int64_t end, T* rows) {
    const auto subtract = panel_kernels<T>().multiply[static_cast<int>(Product::subtract)];
    const int64_t height = end - begin;
    Lookout lookout;
    for (int64_t panel = 0; panel < panels_; ++panel) {
      T* const q = rows + panel * panel_ * height;
      const int64_t first = panel * panel_, depth = std::min(last_column(panel), end);
      std::fill_n(q, height * panel_, T{0});
      for (int64_t row = std::max(begin, first); row < std::min(end, last_column(panel)); ++row) {
        q[(row - begin) * panel_ + row - first] = signs_[static_cast<size_t>(row)];
      }
      for (int64_t k = 0; k < depth; k += kSum) {
        subtract(height, std::min(kSum, depth - k), {block_.v + begin * block_.step + k, block_.step, 1},
                 x_of(panel) + k * panel_, panel_, q, panel_);
      }
      lookout.after(height * depth * panel_);
    }
    to_.store_rows(rows, height, begin, end, static_cast<T>(gain_));
  }

  const TallView& to_;
  const double gain_;
  const int threads_;
  const int64_t panel_ = panel_kernels<T>().panel, panels_;
  ReflectorBlock<T> block_;
  DrawnReflectors<T> reflectors_;
  const Scratch<T> vectors_, x_, rows_;
  std::vector<T> signs_;
};

template <class T> void fill_with(const Orthogonal& matrix, int threads) {
  const TallView to(matrix.view);
  if (to.rows() >= kTall * to.columns()) {
    InOneBlock<T>(matrix, to, threads)();
  } else {
    InBlocks<T>(matrix, to, threads)();
  }
}

void fill_one(const Orthogonal& matrix, int threads) {
  if (matrix.view.dtype == DType::f64) {
    fill_with<double>(matrix, threads);
  } else {
    fill_with<float>(matrix, threads);
  }
}

// Multiply-adds, roughly.
int64_t cost(const View& view) {
  const int64_t rows = view.dims[0].size, columns = view.count() / rows;
  return rows * columns * std::min(rows, columns);
}

}  // namespace

void fill_orthogonal(const std::vector<Orthogonal>& matrices, int threads) {
  int64_t all = 0;
  for (const Orthogonal& matrix : matrices) {
    if (matrix.view.dims.size() < 2) throw std::invalid_argument("shape: needs two dimensions or more");
    if (matrix.view.count() > 0) all += cost(matrix.view);
  }
  std::vector<size_t> small, large;
  int64_t small_cost = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    if (matrices[i].view.count() == 0) continue;
    const int64_t own = cost(matrices[i].view);
    const bool is_large = own > all / (kFair * threads);
    (is_large ? large : small).push_back(i);
    if (!is_large) small_cost += own;
  }
  for (const size_t i : large) fill_one(matrices[i], threads);
  // The longest first, so that no thread is left with one at the end.
  std::stable_sort(small.begin(), small.end(),
                   [&](size_t a, size_t b) { return cost(matrices[a].view) > cost(matrices[b].view); });
  Steps steps;
  steps.add(std::ssize(small), [&](int64_t task, int) { fill_one(matrices[small[static_cast<size_t>(task)]], 1); });
  steps.run(usable_threads(threads, small_cost, kSpreadGrain));
}

}  // namespace pyinit
