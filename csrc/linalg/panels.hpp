// A matrix in panels: columns in groups as wide as a register tile, each group row after row. A product with it
// reads and writes memory in order, whatever the layout of the tensor that it comes from or goes to.
#pragma once

#include <vector>

#include "core/scratch.hpp"
#include "core/view.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {

// A tensor as a matrix at least as tall as wide: its first dimension against all others, or the transpose of that.
class TallView {
 public:
  explicit TallView(const View& view);

  int64_t rows() const { return static_cast<int64_t>(row_offsets_.size()); }
  int64_t columns() const { return static_cast<int64_t>(column_offsets_.size()); }

  // Writes rows [begin, end), times gain. They are the first ones of panels of `panel_rows` rows.
  template <class T>
  void store_rows(const T* panels, int64_t panel_rows, int64_t begin, int64_t end, T gain) const;

 private:
  char* data_;
  DType dtype_;
  std::vector<int64_t> row_offsets_, column_offsets_;
};

// Dense memory as such a matrix: row after row, or column after column.
template <class T> struct TallMatrix {
  const T* data;
  int64_t rows, columns;
  bool is_transposed;
};

// Copies rows [begin, end) into panels. The columns that fill the last panel up become zero.
template <class T> void load_rows(const TallMatrix<T>& matrix, int64_t begin, int64_t end, T* panels);

}  // namespace pyinit
