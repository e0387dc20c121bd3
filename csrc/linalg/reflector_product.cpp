#include "linalg/reflector_product.hpp"

#include <algorithm>

#include "core/integers.hpp"
#include "core/parallel.hpp"

namespace pyinit {
namespace {

constexpr int64_t kResidentBytes = 4 << 20;  // of panels, to stay in the last-level cache
constexpr int64_t kStoredRows = 128;         // by one task

// A group of panels goes through all blocks before the next one does. Panels that fit into the cache make groups of as
// many as fit; of larger ones each thread has one group, and reads V once for all of them.
int64_t group_count(int64_t panels, int64_t panel_bytes, int threads) {
  const int64_t rounds = panel_bytes > kResidentBytes ? 1 : panels * panel_bytes / kResidentBytes / threads + 1;
  return std::min(panels, rounds * threads);
}

}  // namespace

template <class T>
ReflectorProduct<T>::ReflectorProduct(int64_t rows, int64_t columns, int threads)
    : rows_(rows),
      columns_(columns),
      width_(panel_kernels<T>().panel),
      count_(divide_up(columns, width_)),
      threads_(reflector_threads(threads, rows, columns)),
      groups_(group_count(count_, width_ * rows * static_cast<int64_t>(sizeof(T)), threads_)),
      blocks_(reflector_blocks<T>(rows, columns)),
      signs_(static_cast<size_t>(columns)),
      products_per_group_(blocks_.empty() ? 0 : divide_up(count_, groups_) * width_ * blocks_[0].step),
      panels_(count_ * width_ * rows),
      products_(products_per_group_ * threads_) {}

// The panels of a group are far apart: those on the right take part in more blocks.
template <class T>
template <class PartOf>
void ReflectorProduct<T>::add_groups(Steps& steps, size_t begin, size_t end, Side side, PartOf part_of) {
  steps.add(groups_, [=, this](int64_t group, int thread) {
    for (size_t block = end; block-- > begin;) {
      std::vector<PanelPart<T>> parts;
      for (int64_t panel = group; panel < count_; panel += groups_) {
        const PanelPart<T> part = part_of(block, panel);
        if (part.width > 0) parts.push_back(part);
      }
      if (!parts.empty()) apply(blocks_[block], side, parts, products_.data() + thread * products_per_group_);
    }
  });
}

template <class T> void ReflectorProduct<T>::add_apply_transposed(Steps& steps, size_t block) {
  add_groups(steps, block, block + 1, Side::transpose, [this](size_t b, int64_t panel) -> PanelPart<T> {
    const ReflectorBlock<T>& of = blocks_[b];
    if (panel * width_ < of.first + of.width) return {};
    return {panels_.data() + (panel * rows_ + of.first) * width_, width_, 0, of.rows, of.width};
  });
}

template <class T> void ReflectorProduct<T>::add_multiply(Steps& steps, size_t begin, size_t end) {
  if (blocks_.empty()) steps.add(1, [this](int64_t, int) { start(0); });
  add_groups(steps, begin, end, Side::product, [this](size_t block, int64_t panel) {
    const PanelPart<T> p = part(block, panel);
    if (p.width > 0 && !has_begun(block, panel)) start(panel);
    return p;
  });
}

template <class T> void ReflectorProduct<T>::add_store(Steps& steps, const TallView& to, double gain) {
  steps.add(divide_up(rows_, kStoredRows), [this, &to, gain](int64_t task, int) {
    const int64_t begin = task * kStoredRows;
    to.store_rows(panels_.data() + begin * width_, rows_, begin, std::min(begin + kStoredRows, rows_),
                  static_cast<T>(gain));
  });
}

template <class T> int64_t ReflectorProduct<T>::last_column(int64_t panel) const {
  return std::min((panel + 1) * width_, columns_);
}

// Whether a block further on has changed the panel.
template <class T> bool ReflectorProduct<T>::has_begun(size_t block, int64_t panel) const {
  return block + 1 < blocks_.size() && blocks_[block + 1].first < last_column(panel);
}

template <class T> void ReflectorProduct<T>::start(int64_t panel) {
  T* const data = panels_.data() + panel * width_ * rows_;
  std::fill(data, data + width_ * rows_, T{0});
  for (int64_t column = panel * width_; column < last_column(panel); ++column) {
    data[column * width_ + column - panel * width_] = signs_[static_cast<size_t>(column)];
  }
}

template <class T> PanelPart<T> ReflectorProduct<T>::part(size_t block, int64_t panel) {
  const ReflectorBlock<T>& b = blocks_[block];
  const int64_t first = panel * width_, last = last_column(panel);
  if (last <= b.first) return {};
  const bool is_full = has_begun(block, panel);  // from that block's first row on
  const int64_t begin = is_full ? std::min(first, blocks_[block + 1].first) : first;
  return {panels_.data() + (panel * rows_ + b.first) * width_, width_, std::max(begin, b.first) - b.first,
          (is_full ? rows_ : last) - b.first, std::min(b.width, last - b.first)};
}

template class ReflectorProduct<float>;
template class ReflectorProduct<double>;

}  // namespace pyinit
