// A matrix in panels: columns in groups as wide as a register tile, each group row after row. A product with it
// reads and writes memory in order, whatever the layout of the tensor that it comes from or goes to.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <vector>

#include "core/view.hpp"
#include "linalg/kernels.hpp"

namespace pyinit {

// Memory that nothing has been written to yet.
template <class T> class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(count) * sizeof(T), kAlignment))) {
    View view;
    view.data = reinterpret_cast<char*>(data_.get());
    view.dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
    view.dims.push_back({count, 1, 1});
    prefer_huge_pages(view);
  }
  T* data() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
};

// A tensor as a matrix at least as tall as wide: its first dimension against all others, or the transpose of that.
class TallView {
 public:
  explicit TallView(const View& view);

  int64_t rows() const { return static_cast<int64_t>(row_offsets_.size()); }
  int64_t columns() const { return static_cast<int64_t>(column_offsets_.size()); }

  // Writes rows [begin, end) of the matrix in panels, times gain.
  template <class T> void store_rows(const T* panels, int64_t begin, int64_t end, T gain) const;

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
