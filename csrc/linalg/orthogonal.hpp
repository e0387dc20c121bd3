// Random orthogonal matrices.
#pragma once

#include <vector>

#include "core/view.hpp"
#include "random/philox.hpp"

namespace pyinit {

// A tensor to be filled with gain times a (semi-)orthogonal matrix, its first dimension against all others.
struct Orthogonal {
  View view;
  Stream stream;
  double gain;
};

// Uniformly distributed (Haar) matrices (Stewart 1980, "The efficient generation of random orthogonal matrices with an
// application to condition estimators"; Mezzadri 2007, "How to generate random matrices from the classical compact
// groups"). 16-bit types are computed in float32. Large matrices are made one after the other by all threads, small
// ones one a thread.
void fill_orthogonal(const std::vector<Orthogonal>& matrices, int threads);

// gain times the orthonormal factor of the QR factorization with a positive diagonal of R. The matrix is dense and
// row-major, of the view's dtype (float32 or float64) and shape, its first dimension against all others; it may be the
// view's own memory. Where it is wide, both are taken for their transposes.
void fill_orthonormalized(const View& view, const void* matrix, double gain, int threads);

}  // namespace pyinit
