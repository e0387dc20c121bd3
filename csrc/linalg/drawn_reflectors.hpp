// The reflectors of a Gaussian matrix's QR factorization, drawn as they are: what the factorization leaves of the next
// column is Gaussian again, and independent of all before (Stewart 1980, "The efficient generation of random
// orthogonal matrices with an application to condition estimators").
#pragma once

#include "core/parallel.hpp"
#include "linalg/reflectors.hpp"
#include "random/philox.hpp"

namespace pyinit {

// The columns from the diagonal down are consecutive normals, row after row.
template <class T> class DrawnReflectors {
 public:
  // Room for the sums of `most_columns` columns at once.
  DrawnReflectors(const Stream& stream, uint64_t first_index, int64_t rows, int64_t columns, int64_t most_columns);

  // A step: V, the reciprocals and the signs of R's diagonal for neighbouring blocks, which must stay where they are.
  void add(Steps& steps, const ReflectorBlock<T>* begin, const ReflectorBlock<T>* end, T* signs);
  // The sign of a square matrix's last column, which has no reflector.
  T last_sign() const;

 private:
  int64_t numbers_before(int64_t row) const;
  int64_t chunks() const;
  void draw_rows(const ReflectorBlock<T>* begin, const ReflectorBlock<T>* end, int64_t chunk);
  void finish(const ReflectorBlock<T>& block, const double* sums, T* signs) const;

  Stream stream_;
  uint64_t first_index_;
  int64_t rows_, columns_;
  Scratch<double> sums_;
};

}  // namespace pyinit
