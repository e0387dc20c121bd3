// A walk over a tensor whose elements are made in runs of consecutive indices.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iterator>

#include "core/view.hpp"
#include "random/kernels.hpp"

namespace pyinit {

constexpr int64_t kTile = 4096;      // elements made at a time where they do not lie side by side
constexpr int64_t kTileRows = 16;    // a tile has at least so many rows: a cache line of floats
constexpr int64_t kDirectRun = 128;  // rows at least this long are written one by one
constexpr int64_t kLongRun = 2048;   // the same for rows that lie one behind the other

// Copies buffer[r][c] to where row r and column c lie, going along the shorter stride in the inner loop.
template <class T>
void scatter(const T* buffer, T* to, int64_t rows, int64_t row_stride, int64_t columns, int64_t column_stride) {
  if (std::abs(column_stride) <= std::abs(row_stride)) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) to[r * row_stride + c * column_stride] = buffer[r * columns + c];
    }
  } else {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = 0; r < rows; ++r) to[r * row_stride + c * column_stride] = buffer[r * columns + c];
    }
  }
}

// A view cut into tiles: `rows` (whose memory stride is the smallest there is) by `columns` (the last
// dim: consecutive elements), repeated over the outer dims.
class Tiling {
 public:
  explicit Tiling(const View& v) : data_(v.data), outer_(v.dims), first_index_(v.first_index) {
    columns_ = outer_.back();
    outer_.pop_back();
    const bool is_dense = !outer_.empty() && outer_.back().stride == columns_.size;
    is_direct_ =
        columns_.stride == 1 && columns_.index_stride == 1 && columns_.size >= (is_dense ? kLongRun : kDirectRun);
    if (is_direct_) return;
    // A scalar or a block of one column may have no dim of consecutive elements.
    if (columns_.index_stride != 1) {
      outer_.push_back(columns_);
      columns_ = {1, 1, 1};
    }
    if (!outer_.empty()) {
      const auto nearest = std::min_element(outer_.rbegin(), outer_.rend(), [](const Dim& a, const Dim& b) {
        return std::abs(a.stride) < std::abs(b.stride);
      });
      // Where columns lie side by side already, the dim next to them keeps the elements consecutive.
      const auto chosen = columns_.stride == 1 ? outer_.rbegin() : nearest;
      rows_ = *chosen;
      outer_.erase(outer_.begin() + (std::next(chosen).base() - outer_.begin()));
    }
    const int64_t most = columns_.stride == 1 ? kTile : kTile / std::min(rows_.size, kTileRows);
    tile_columns_ = std::min(columns_.size, most);
    tile_rows_ = std::clamp<int64_t>(kTile / tile_columns_, 1, rows_.size);
    row_tiles_ = (rows_.size + tile_rows_ - 1) / tile_rows_;
    column_tiles_ = (columns_.size + tile_columns_ - 1) / tile_columns_;
  }

  bool is_direct() const { return is_direct_; }
  int64_t tiles() const { return outer_count() * row_tiles_ * column_tiles_; }

  // Direct: run(first_index, count, memory offset) for every piece of the elements [begin, end).
  template <class Run> void for_each_run(int64_t begin, int64_t end, Run&& run) const {
    for (int64_t i = begin; i < end;) {
      const int64_t row = i / columns_.size, column = i % columns_.size;
      const int64_t n = std::min(columns_.size - column, end - i);
      const Place at = place(row);
      run(at.index + static_cast<uint64_t>(column), n, at.offset + column);
      i += n;
    }
  }

  template <class T> struct Tile {
    const T* values;  // side by side
    int64_t count;
  };

  // Tile t: make(rows, to) for its elements, where they lie or else in the buffer, from which they are copied there.
  template <class T, class Make> Tile<T> fill_tile(int64_t t, T* buffer, Make&& make) const {
    const int64_t column = t % column_tiles_ * tile_columns_;
    const int64_t row = t / column_tiles_ % row_tiles_ * tile_rows_;
    const Place at = place(t / column_tiles_ / row_tiles_);
    const int64_t rows = std::min(tile_rows_, rows_.size - row),
                  columns = std::min(tile_columns_, columns_.size - column);
    const uint64_t index = at.index + static_cast<uint64_t>(row * rows_.index_stride + column);
    T* const to = reinterpret_cast<T*>(data_) + at.offset + row * rows_.stride + column * columns_.stride;
    const bool is_one_run = rows == 1 || rows_.index_stride == columns;
    const bool is_dense = columns_.stride == 1 && (rows == 1 || rows_.stride == columns);
    T* const values = is_dense ? to : buffer;
    make(is_one_run ? Rows{index, rows * columns} : Rows{index, columns, rows, rows_.index_stride}, values);
    if (!is_dense) scatter(buffer, to, rows, rows_.stride, columns, columns_.stride);
    return {values, rows * columns};
  }

 private:
  struct Place {
    uint64_t index;
    int64_t offset;
  };
  Place place(int64_t outer) const {
    Place at{first_index_, 0};
    for (auto d = outer_.rbegin(); d != outer_.rend(); ++d) {
      const int64_t i = outer % d->size;
      outer /= d->size;
      at.index += static_cast<uint64_t>(i * d->index_stride);
      at.offset += i * d->stride;
    }
    return at;
  }
  int64_t outer_count() const {
    int64_t n = 1;
    for (const Dim& d : outer_) n *= d.size;
    return n;
  }

  char* data_;
  InlineVector<Dim> outer_;
  uint64_t first_index_;
  Dim rows_{1, 1, 1}, columns_{1, 1, 1};
  int64_t tile_rows_ = 1, tile_columns_ = 1, row_tiles_ = 1, column_tiles_ = 1;
  bool is_direct_ = false;
};

}  // namespace pyinit
