#include "linalg/panels.hpp"

#include <algorithm>
#include <utility>

namespace pyinit {
namespace {

constexpr int64_t kChunk = 64;  // rows that are moved together

// Where the elements along the given dims lie, the last one fastest.
std::vector<int64_t> offsets(const Dim* begin, const Dim* end) {
  std::vector<int64_t> all{0};
  for (const Dim* d = begin; d != end; ++d) {
    std::vector<int64_t> next(all.size() * static_cast<size_t>(d->size));
    auto to = next.begin();
    for (const int64_t base : all) {
      for (int64_t i = 0; i < d->size; ++i) *to++ = base + i * d->stride;
    }
    all = std::move(next);
  }
  return all;
}

// The distance between neighbours where it is the same for all, 1 for one alone, 0 for others.
int64_t common_step(const int64_t* offsets, int64_t count) {
  if (count == 1) return 1;
  const int64_t step = offsets[1] - offsets[0];
  for (int64_t i = 2; i < count; ++i) {
    if (offsets[i] - offsets[i - 1] != step) return 0;
  }
  return step;
}

}  // namespace

TallView::TallView(const View& view)
    : data_(view.data),
      dtype_(view.dtype),
      row_offsets_(offsets(view.dims.begin(), view.dims.begin() + 1)),
      column_offsets_(offsets(view.dims.begin() + 1, view.dims.end())) {
  if (rows() < columns()) std::swap(row_offsets_, column_offsets_);
}

template <class T>
void TallView::store_rows(const T* panels, int64_t panel_rows, int64_t begin, int64_t end, T gain) const {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const auto scale = kernels.scale[static_cast<int>(dtype_)];
  const int64_t panel = kernels.panel;
  visit(dtype_, [&](auto type) {
    using U = decltype(type);
    U* const data = reinterpret_cast<U*>(data_);
    for (int64_t row = begin; row < end; row += kChunk) {
      const int64_t height = std::min(kChunk, end - row);
      const int64_t* to_row = row_offsets_.data() + row;
      const bool along_rows = common_step(to_row, height) == 1;
      for (int64_t column = 0; column < columns(); column += panel) {
        const int64_t width = std::min(panel, columns() - column);
        const int64_t* to_column = column_offsets_.data() + column;
        const T* const from = panels + column * panel_rows + (row - begin) * panel;
        const int64_t step = common_step(to_column, width);
        if (step == 1) {
          for (int64_t i = 0; i < height; ++i) {
            scale(width, from + i * panel, gain, data + to_row[i] + to_column[0]);
          }
        } else if (along_rows && step > 0 && gain == 1 && sizeof(T) == sizeof(U)) {
          kernels.transpose(height, width, from, panel, reinterpret_cast<T*>(data + to_row[0] + to_column[0]), step);
        } else if (along_rows) {
          T turned[kMaxPanel * kChunk];
          kernels.transpose(height, panel, from, panel, turned, kChunk);
          for (int64_t j = 0; j < width; ++j) scale(height, turned + j * kChunk, gain, data + to_row[0] + to_column[j]);
        } else {
          U values[kChunk * kMaxPanel];
          scale(height * panel, from, gain, values);
          for (int64_t i = 0; i < height; ++i) {
            for (int64_t j = 0; j < width; ++j) data[to_row[i] + to_column[j]] = values[i * panel + j];
          }
        }
      }
    }
  });
}

template void TallView::store_rows(const float*, int64_t, int64_t, int64_t, float) const;
template void TallView::store_rows(const double*, int64_t, int64_t, int64_t, double) const;

template <class T> void load_rows(const TallMatrix<T>& matrix, int64_t begin, int64_t end, T* panels) {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const int64_t panel = kernels.panel, height = end - begin;
  for (int64_t column = 0; column < matrix.columns; column += panel) {
    const int64_t width = std::min(panel, matrix.columns - column);
    T* const to = panels + column * matrix.rows + begin * panel;
    if (width < panel) std::fill_n(to, height * panel, T{0});
    if (matrix.is_transposed) {
      kernels.transpose(width, height, matrix.data + column * matrix.rows + begin, matrix.rows, to, panel);
    } else {
      kernels.copy(height, width, matrix.data + begin * matrix.columns + column, matrix.columns, to, panel);
    }
  }
}

template void load_rows(const TallMatrix<float>&, int64_t, int64_t, float*);
template void load_rows(const TallMatrix<double>&, int64_t, int64_t, double*);

}  // namespace pyinit
