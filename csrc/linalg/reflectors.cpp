#include "linalg/reflectors.hpp"

#include <algorithm>
#include <cmath>

#include "core/integers.hpp"
#include "core/parallel.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = 500'000;        // multiply-adds, worth a thread
constexpr int64_t kWidth = 96;             // a multiple of the panels' widths, and of most tiles' heights
constexpr int64_t kWidthUnit = 32;         // the widest panel
constexpr int64_t kChunkBytes = 64 << 10;  // of V, that are worked on together
constexpr int64_t kSumRows = 168;  // of V, whose products are summed on their own: errors grow with a sum's length

// Rows of V that are worked on together.
template <class T> int64_t chunk_rows(const ReflectorBlock<T>& block) {
  const int64_t tile = panel_kernels<T>().rows;
  return std::max<int64_t>(1, kChunkBytes / static_cast<int64_t>(sizeof(T)) / block.step / tile) * tile;
}

}  // namespace

int reflector_threads(int threads, int64_t rows, int64_t columns) {
  return usable_threads(threads, rows * columns * columns, kGrain);
}

template <class T> Pivot<T> make_pivot(T x1, double sum_of_squares) {
  const double x = static_cast<double>(x1);
  const T v1 = sum_of_squares > 0 ? static_cast<T>(x + std::copysign(std::sqrt(sum_of_squares), x)) : T{1};
  const double v = static_cast<double>(v1);
  return {v1, static_cast<T>(2 / (sum_of_squares - x * x + v * v)), static_cast<T>(std::copysign(1.0, -x))};
}

template <class T> std::vector<ReflectorBlock<T>> reflector_blocks(int64_t rows, int64_t columns) {
  const int64_t reflectors = std::min(columns, rows - 1);  // a reflection of one dimension would be a sign
  const int64_t count = divide_up(reflectors, kWidth);
  const int64_t panel = panel_kernels<T>().panel;
  std::vector<ReflectorBlock<T>> blocks;
  if (count == 0) return blocks;
  // As even as whole panels allow.
  const int64_t width = round_up(divide_up(reflectors, count), kWidthUnit);
  for (int64_t first = 0; first < reflectors; first += width) {
    const int64_t w = std::min(width, reflectors - first);
    const bool takes_next = rows == columns && w % kWidthUnit != 0;  // as in the widest panel
    blocks.push_back({first, w, rows - first, round_up(takes_next ? w + 1 : w, panel), nullptr, nullptr, nullptr});
  }
  return blocks;
}

template <class T> void fill_r(const ReflectorBlock<T>& block, int64_t panel, int64_t distance) {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  Lookout lookout;
  const auto for_each_column = [&](auto&& f) {
    for (int64_t column = panel * kernels.panel; column < block.width; column += distance * kernels.panel) {
      f(column, std::min(column + kernels.panel, block.width));
    }
  };
  for (int64_t row = 0; row < block.rows; row += kSumRows) {
    const int64_t to = std::min(row + kSumRows, block.rows);
    for_each_column([&](int64_t column, int64_t height) {
      const int64_t from = std::max(row, column);  // zeros above
      if (from >= to) return;
      const Product product = from == column ? Product::set : Product::add;
      const T* v = block.v + from * block.step;
      kernels.multiply[static_cast<int>(product)](height, to - from, {v, 1, block.step}, v + column, block.step,
                                                  block.r + column, block.step);
      lookout.after((to - from) * kernels.panel * height);
    });
  }
  for_each_column([&](int64_t column, int64_t height) {
    for (int64_t i = column; i < height; ++i) block.r[i * (block.step + 1)] = block.reciprocals[i];
  });
}

template <class T>
void apply(const ReflectorBlock<T>& block, Side side, const std::vector<PanelPart<T>>& panels, T* w) {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const int64_t panel = kernels.panel, chunk = chunk_rows(block), size = block.step * panel;
  Lookout lookout;
  // W = V'C
  int64_t begin = block.rows, end = 0;
  for (const PanelPart<T>& part : panels) {
    begin = std::min(begin, part.begin);
    end = std::max(end, part.end);
  }
  for (int64_t row = begin / kSumRows * kSumRows; row < end; row += kSumRows) {
    for (size_t p = 0; p < panels.size(); ++p) {
      const PanelPart<T>& part = panels[p];
      const int64_t from = std::max(row, part.begin), to = std::min(row + kSumRows, part.end);
      if (from >= to) continue;
      const Product product = from == part.begin ? Product::set : Product::add;
      kernels.multiply[static_cast<int>(product)](part.width, to - from, {block.v + from * block.step, 1, block.step},
                                                  part.c + from * part.step, part.step,
                                                  w + static_cast<int64_t>(p) * size, panel);
      lookout.after(part.width * (to - from) * panel);
    }
  }
  // W = R^-1 W or R'^-1 W
  for (size_t p = 0; p < panels.size(); ++p) {
    const int64_t width = panels[p].width, last = width - 1;
    T* const x = w + static_cast<int64_t>(p) * size;
    if (side == Side::product) {
      kernels.solve(width, {block.r + last * (block.step + 1), -block.step, -1}, x + last * panel, -panel);
    } else {
      kernels.solve(width, {block.r, 1, block.step}, x, panel);
    }
  }
  // C = C - V W
  for (int64_t row = 0; row < block.rows;) {
    // In the first rows V is a triangle, in narrower and narrower steps.
    const int64_t height = std::min(row < block.width ? 2 * kernels.rows : chunk, block.rows - row);
    for (size_t p = 0; p < panels.size(); ++p) {
      const PanelPart<T>& part = panels[p];
      const int64_t depth = std::min(part.width, row + height);
      kernels.multiply[static_cast<int>(Product::subtract)](height, depth, {block.v + row * block.step, block.step, 1},
                                                            w + static_cast<int64_t>(p) * size, panel,
                                                            part.c + row * part.step, part.step);
      lookout.after(height * depth * panel);
    }
    row += height;
  }
}

template Pivot<float> make_pivot(float, double);
template Pivot<double> make_pivot(double, double);
template std::vector<ReflectorBlock<float>> reflector_blocks(int64_t, int64_t);
template std::vector<ReflectorBlock<double>> reflector_blocks(int64_t, int64_t);
template void fill_r(const ReflectorBlock<float>&, int64_t, int64_t);
template void fill_r(const ReflectorBlock<double>&, int64_t, int64_t);
template void apply(const ReflectorBlock<float>&, Side, const std::vector<PanelPart<float>>&, float*);
template void apply(const ReflectorBlock<double>&, Side, const std::vector<PanelPart<double>>&, double*);

}  // namespace pyinit
