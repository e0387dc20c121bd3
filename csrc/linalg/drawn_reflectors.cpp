#include "linalg/drawn_reflectors.hpp"

#include <algorithm>
#include <cmath>

#include "core/integers.hpp"
#include "random/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kChunkRows = 64;  // that are drawn together, and whose squares are summed on their own

// Consecutive standard normals, some of them drawn ahead.
template <class T> class Normals {
 public:
  Normals(const Stream& stream, uint64_t first) : stream_(stream), first_(first) {}

  // `count` of them from number `index` on; those up to `limit` will be asked for, too.
  void copy(int64_t index, int64_t count, int64_t limit, T* to) {
    while (count > 0) {
      if (index < begin_ || index >= end_) draw(index, limit);
      const int64_t n = std::min(count, end_ - index);
      std::copy_n(numbers_ + (index - begin_), n, to);
      index += n;
      count -= n;
      to += n;
    }
  }

 private:
  static constexpr auto kType = std::is_same_v<T, float> ? DType::f32 : DType::f64;
  static constexpr int64_t kMost = 4096;

  void draw(int64_t index, int64_t limit) {
    begin_ = index;
    end_ = std::min(index + kMost, limit);
    random_kernels().normal[static_cast<int>(kType)]({0, 1}, stream_,
                                                     {first_ + static_cast<uint64_t>(begin_), end_ - begin_}, numbers_);
  }

  Stream stream_;
  uint64_t first_;
  int64_t begin_ = 0, end_ = 0;
  T numbers_[kMost];
};

}  // namespace

template <class T>
DrawnReflectors<T>::DrawnReflectors(const Stream& stream, uint64_t first_index, int64_t rows, int64_t columns,
                                    int64_t most_columns)
    : stream_(stream), first_index_(first_index), rows_(rows), columns_(columns), sums_(most_columns * chunks()) {}

template <class T>
void DrawnReflectors<T>::add(Steps& steps, const ReflectorBlock<T>* begin, const ReflectorBlock<T>* end, T* signs) {
  // The last chunks first: they have the most numbers.
  steps.add(chunks(), [=, this](int64_t task, int) { draw_rows(begin, end, chunks() - 1 - task); });
  steps.add(1, [=, this](int64_t, int) {
    const double* sums = sums_.data();
    for (const ReflectorBlock<T>* block = begin; block != end; ++block) {
      finish(*block, sums, signs);
      sums += block->width * chunks();
    }
  });
}

template <class T> T DrawnReflectors<T>::last_sign() const {
  const int64_t last = numbers_before(rows_) - 1;
  T number;
  Normals<T>(stream_, first_index_).copy(last, 1, last + 1, &number);
  return std::copysign(T{1}, number);
}

// In the rows above that one, from the diagonal down.
template <class T> int64_t DrawnReflectors<T>::numbers_before(int64_t row) const {
  const int64_t triangle = std::min(row, columns_);
  return triangle * (triangle + 1) / 2 + (row - triangle) * columns_;
}

template <class T> int64_t DrawnReflectors<T>::chunks() const { return divide_up(rows_, kChunkRows); }

// A chunk's rows of V, but for its pivots, and the sums of their columns' squares.
template <class T>
void DrawnReflectors<T>::draw_rows(const ReflectorBlock<T>* begin, const ReflectorBlock<T>* end, int64_t chunk) {
  if (begin == end) return;
  const int64_t first_row = chunk * kChunkRows, end_row = std::min(first_row + kChunkRows, rows_);
  const int64_t last_column = end[-1].first + end[-1].width;
  // Where the blocks are all there are, the numbers go on from row to row.
  const bool goes_on = begin->first == 0 && last_column >= std::min(columns_, rows_ - 1);
  Normals<T> normals(stream_, first_index_);
  for (int64_t row = first_row; row < end_row; ++row) {
    const int64_t number = numbers_before(row);
    const int64_t limit = goes_on ? numbers_before(end_row) : number + std::min(row + 1, last_column);
    for (const ReflectorBlock<T>* block = begin; block != end && block->first <= row; ++block) {
      const int64_t count = std::min(block->width, row - block->first + 1);
      T* const to = block->v + (row - block->first) * block->step;
      normals.copy(number + block->first, count, limit, to);
      std::fill_n(to + count, block->step - count, T{0});
    }
  }
  double* sums = sums_.data();
  for (const ReflectorBlock<T>* block = begin; block != end; ++block) {
    double* const to = sums + chunk * block->width;
    std::fill_n(to, block->width, 0.0);
    const int64_t first = std::max(first_row - block->first, int64_t{0}), last = end_row - block->first;
    if (first < last) {
      panel_kernels<T>().add_squares(last - first, block->width, block->v + first * block->step, block->step, to);
    }
    sums += block->width * chunks();
  }
}

// A column of the result gets the sign that R's diagonal would have: as if that were positive, without which the
// distribution is not uniform (Mezzadri 2007).
template <class T> void DrawnReflectors<T>::finish(const ReflectorBlock<T>& block, const double* sums, T* signs) const {
  for (int64_t i = 0; i < block.width; ++i) {
    double square = 0;
    for (int64_t chunk = 0; chunk < chunks(); ++chunk) square += sums[chunk * block.width + i];
    T& x1 = block.v[i * (block.step + 1)];
    const Pivot<T> pivot = make_pivot(x1, square);
    x1 = pivot.v1;
    block.reciprocals[i] = pivot.reciprocal;
    signs[block.first + i] = pivot.sign;
  }
}

template class DrawnReflectors<float>;
template class DrawnReflectors<double>;

}  // namespace pyinit
