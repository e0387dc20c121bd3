#include "linalg/panels.hpp"

#include <algorithm>
#include <cstring>

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

bool is_contiguous(const int64_t* offsets, int64_t count) {
  return count == 1 || (offsets[count - 1] - offsets[0] == count - 1 && std::is_sorted(offsets, offsets + count));
}

}  // namespace

TallView::TallView(const View& view)
    : data_(view.data),
      dtype_(view.dtype),
      row_offsets_(offsets(view.dims.begin(), view.dims.begin() + 1)),
      column_offsets_(offsets(view.dims.begin() + 1, view.dims.end())) {
  if (rows() < columns()) std::swap(row_offsets_, column_offsets_);
}

template <class T> void TallView::store_rows(const T* panels, int64_t begin, int64_t end, double gain) const {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const auto convert = kernels.scale[static_cast<int>(dtype_)];
  const int64_t panel = kernels.panel;
  visit(dtype_, [&](auto type) {
    using U = decltype(type);
    U values[kChunk * kMaxPanel];
    U* const data = reinterpret_cast<U*>(data_);
    for (int64_t row = begin; row < end; row += kChunk) {
      const int64_t height = std::min(kChunk, end - row);
      const int64_t* to_row = row_offsets_.data() + row;
      for (int64_t column = 0; column < columns(); column += panel) {
        const int64_t width = std::min(panel, columns() - column);
        const int64_t* to_column = column_offsets_.data() + column;
        convert(height * panel, panels + column * rows() + row * panel, static_cast<T>(gain), values);
        if (is_contiguous(to_column, width)) {
          for (int64_t i = 0; i < height; ++i) {
            std::memcpy(static_cast<void*>(data + to_row[i] + to_column[0]), values + i * panel,
                        static_cast<size_t>(width) * sizeof(U));
          }
        } else if (is_contiguous(to_row, height)) {
          for (int64_t j = 0; j < width; ++j) {
            U* const to = data + to_row[0] + to_column[j];
            for (int64_t i = 0; i < height; ++i) to[i] = values[i * panel + j];
          }
        } else {
          for (int64_t i = 0; i < height; ++i) {
            for (int64_t j = 0; j < width; ++j) data[to_row[i] + to_column[j]] = values[i * panel + j];
          }
        }
      }
    }
  });
}

template <class T> void TallView::load_rows(int64_t begin, int64_t end, T* panels) const {
  const int64_t panel = panel_kernels<T>().panel;
  const T* const data = reinterpret_cast<const T*>(data_);
  for (int64_t row = begin; row < end; row += kChunk) {
    const int64_t last = std::min(row + kChunk, end);
    for (int64_t column = 0; column < columns(); column += panel) {
      const int64_t width = std::min(panel, columns() - column);
      for (int64_t i = row; i < last; ++i) {
        T* const to = panels + column * rows() + i * panel;
        for (int64_t j = 0; j < width; ++j)
          to[j] = data[row_offsets_[static_cast<size_t>(i)] + column_offsets_[static_cast<size_t>(column + j)]];
        std::fill(to + width, to + panel, T{0});
      }
    }
  }
}

template void TallView::store_rows(const float*, int64_t, int64_t, double) const;
template void TallView::store_rows(const double*, int64_t, int64_t, double) const;
template void TallView::load_rows(int64_t, int64_t, float*) const;
template void TallView::load_rows(int64_t, int64_t, double*) const;

}  // namespace pyinit
