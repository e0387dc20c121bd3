// Products of matrices of any layout.
#pragma once

#include <cstdint>

namespace pyinit {

// A batch of matrices: element (i, j) of matrix l stands at data[l * matrix + i * row + j * column].
template <class T> struct Matrices {
  T* data;
  int64_t matrix, row, column;
};

struct ProductSize {
  int64_t batch, m, n, k;
};

// C = alpha AB + beta C for every matrix of the batch, with A m x k, B k x n and C m x n. C must not overlap
// itself, A or B; where beta is 0 it is not read, and where alpha is 0 neither are A and B. With alpha A and beta C
// rounded first, each element is one chain of multiply-adds, k = 0, 1, 2, ...: its bits depend on neither layout,
// threads nor, with a fused multiply-add, the instruction set. Throws before anything is written.
template <class T>
void gemm(const ProductSize& size, T alpha, const Matrices<const T>& a, const Matrices<const T>& b, T beta,
          const Matrices<T>& c, int threads);

}  // namespace pyinit
