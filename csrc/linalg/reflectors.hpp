// Products of Householder reflections, in blocks.
//
// A reflection is H = I - v v' / d with d = v'v / 2. A product H(0) H(1) ... is I - V R^-1 V' with
// R = striu(V'V) + diag(d) (Puglisi 1992, "Modification of the Householder method based on the compact WY
// representation"). Products with V and solutions with R are all that it takes; no v is ever normalized.
#pragma once

#include <vector>

#include "linalg/panels.hpp"

namespace pyinit {

// Reflectors first, first + 1, ...; v(i) has zeros above row first + i of the matrix.
template <class T> struct ReflectorBlock {
  int64_t first, width;
  int64_t rows;  // of V: those of the matrix from `first` on
  int64_t step;  // elements of a row of V and of R: width, filled up to whole panels with zeros
  T* v;
  T* r;            // 1 / d on the diagonal; below it, anything
  T* reciprocals;  // 1 / d

  // What V, R and the reciprocals take together.
  int64_t elements() const { return step * (rows + width + 1); }
  void place(T* memory) {
    v = memory;
    r = v + step * rows;
    reciprocals = r + step * width;
  }
};

// The reflector v = x + sign(x1) |x| e1, whose reflection takes x to -sign(x1) |x| e1.
template <class T> struct Pivot {
  T v1;          // the rest of v is that of x
  T reciprocal;  // 1 / d
  T sign;        // of R's diagonal
};
template <class T> Pivot<T> make_pivot(T x1, double sum_of_squares);

// The threads, of so many, that are worth using for a matrix at least as tall as wide.
int reflector_threads(int threads, int64_t rows, int64_t columns);

// The blocks of such a matrix, without memory. Their widths depend on the shape alone, as bits
// depend on them; and so does whether the last column of a square, which has no reflector, fills up the last block.
template <class T> std::vector<ReflectorBlock<T>> reflector_blocks(int64_t rows, int64_t columns);

// The columns of R from V and the reciprocals, of every `distance`-th panel from the one numbered `panel` on: those
// that one thread fills read V once.
template <class T> void fill_r(const ReflectorBlock<T>& block, int64_t panel, int64_t distance);

// Whether to multiply by the block's product of reflections or by its transpose.
enum class Side : int { product, transpose };

// What of a panel a block changes: `c` is row block.first of the panel, with rows at a distance of `step`; those
// outside [begin, end), counted from there, are zero. Reflectors from `width` on leave the panel as it is.
template <class T> struct PanelPart {
  T* c;
  int64_t step, begin, end, width;
};

// Multiplies the panels by the block. `w` has room for step rows of every panel.
template <class T>
void apply(const ReflectorBlock<T>& block, Side side, const std::vector<PanelPart<T>>& panels, T* w);

}  // namespace pyinit
