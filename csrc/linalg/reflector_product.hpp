// The first columns of a product of reflections.
#pragma once

#include <vector>

#include "core/parallel.hpp"
#include "linalg/reflectors.hpp"

namespace pyinit {

// Q = H(0) H(1) ... [I] D, of the shape of a matrix at least as tall as wide, with signs D. It is made from the last
// block to the first: a column takes part only in the reflections up to its own, and rows stay zero for long.
template <class T> class ReflectorProduct {
 public:
  // Throws where there is not enough memory.
  ReflectorProduct(int64_t rows, int64_t columns, int threads);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int threads() const { return threads_; }
  std::vector<ReflectorBlock<T>>& blocks() { return blocks_; }
  std::vector<T>& signs() { return signs_; }

  // The panels, free for another matrix until multiply() is called.
  T* panels() { return panels_.data(); }

  // Steps of work: to multiply the columns of that matrix right of a block's by the transpose of its reflections;
  void add_apply_transposed(Steps& steps, size_t block);
  // to go on from the product of the blocks from `end` on, down to `begin`, whose vectors and R are there by then;
  void add_multiply(Steps& steps, size_t begin, size_t end);
  // to write gain times the product.
  void add_store(Steps& steps, const TallView& to, double gain);

 private:
  // Where part_of(block, panel) says what of a panel a block changes, nothing if its width is 0.
  template <class PartOf> void add_groups(Steps& steps, size_t begin, size_t end, Side side, PartOf part_of);
  void start(int64_t panel);
  bool has_begun(size_t block, int64_t panel) const;
  int64_t last_column(int64_t panel) const;
  PanelPart<T> part(size_t block, int64_t panel);

  int64_t rows_, columns_;
  int64_t width_, count_;  // of panels
  int threads_;
  int64_t groups_;
  std::vector<ReflectorBlock<T>> blocks_;
  std::vector<T> signs_;
  int64_t products_per_group_;
  Scratch<T> panels_, products_;
};

}  // namespace pyinit
