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

// The orthonormal factor of the QR factorization whose R has a positive diagonal, of a dense row-major matrix of
// float32 or float64 with as many elements as the view, of its dtype; the matrix is used up. Where the view is wide,
// both are taken for their transposes.
void fill_orthonormalized(const View& view, void* matrix, double gain, int threads);

}  // namespace pyinit
