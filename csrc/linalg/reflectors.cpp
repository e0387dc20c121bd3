#include "linalg/reflectors.hpp"

#include <algorithm>

namespace pyinit {
namespace {

constexpr int64_t kWidth = 96;             // a multiple of the panels' widths, and of their tiles' heights
constexpr int64_t kWidthUnit = 32;         // the widest panel
constexpr int64_t kChunkBytes = 24 << 10;  // of V, to stay in the first-level cache

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

}  // namespace

template <class T> std::vector<ReflectorBlock<T>> reflector_blocks(int64_t rows, int64_t reflectors) {
  const int64_t count = (reflectors + kWidth - 1) / kWidth;
  const int64_t panel = panel_kernels<T>().panel;
  std::vector<ReflectorBlock<T>> blocks;
  if (count == 0) return blocks;
  // As even as whole panels allow.
  const int64_t width = round_up((reflectors + count - 1) / count, kWidthUnit);
  for (int64_t first = 0; first < reflectors; first += width) {
    const int64_t w = std::min(width, reflectors - first);
    blocks.push_back({first, w, rows - first, round_up(w, panel), nullptr, nullptr, nullptr});
  }
  return blocks;
}

// Rows of V that are worked on together.
template <class T> int64_t chunk_rows(const ReflectorBlock<T>& block) {
  const int64_t tile = panel_kernels<T>().rows;
  return std::max<int64_t>(1, kChunkBytes / static_cast<int64_t>(sizeof(T)) / block.step / tile) * tile;
}

template <class T> void fill_r(const ReflectorBlock<T>& block, int64_t column) {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const int64_t height = std::min(column + kernels.panel, block.width), chunk = chunk_rows(block);
  Product product = Product::set;
  for (int64_t row = column; row < block.rows; row += chunk) {  // V's column has zeros above
    const T* v = block.v + row * block.step;
    kernels.multiply[static_cast<int>(product)](height, std::min(chunk, block.rows - row), {v, 1, block.step},
                                                v + column, block.step, block.r + column, block.step);
    product = Product::add;
  }
  for (int64_t i = column; i < height; ++i) block.r[i * (block.step + 1)] = block.reciprocals[i];
}

template <class T>
void apply(const ReflectorBlock<T>& block, Side side, const std::vector<PanelPart<T>>& panels, T* w) {
  const PanelKernels<T>& kernels = panel_kernels<T>();
  const int64_t panel = kernels.panel, chunk = chunk_rows(block), size = block.step * panel;
  // W = V'C
  int64_t begin = block.rows, end = 0;
  for (const PanelPart<T>& part : panels) {
    begin = std::min(begin, part.begin);
    end = std::max(end, part.end);
  }
  for (int64_t row = begin; row < end; row += chunk) {
    for (size_t p = 0; p < panels.size(); ++p) {
      const int64_t from = std::max(row, panels[p].begin), to = std::min(row + chunk, panels[p].end);
      if (from >= to) continue;
      const Product product = from == panels[p].begin ? Product::set : Product::add;
      kernels.multiply[static_cast<int>(product)](block.width, to - from, {block.v + from * block.step, 1, block.step},
                                                  panels[p].c + from * panel, panel, w + static_cast<int64_t>(p) * size,
                                                  panel);
    }
  }
  // W = R^-1 W or R'^-1 W
  const int64_t last = block.width - 1;
  for (size_t p = 0; p < panels.size(); ++p) {
    T* const x = w + static_cast<int64_t>(p) * size;
    if (side == Side::product) {
      kernels.solve(block.width, {block.r + last * (block.step + 1), -block.step, -1}, x + last * panel, -panel);
    } else {
      kernels.solve(block.width, {block.r, 1, block.step}, x, panel);
    }
  }
  // C = C - V W
  for (int64_t row = 0; row < block.rows;) {
    // In the first rows V is a triangle, in narrower and narrower steps.
    const int64_t height = std::min(row < block.width ? 2 * kernels.rows : chunk, block.rows - row);
    const int64_t depth = std::min(block.width, row + height);
    for (size_t p = 0; p < panels.size(); ++p) {
      kernels.multiply[static_cast<int>(Product::subtract)](height, depth, {block.v + row * block.step, block.step, 1},
                                                            w + static_cast<int64_t>(p) * size, panel,
                                                            panels[p].c + row * panel, panel);
    }
    row += height;
  }
}

template std::vector<ReflectorBlock<float>> reflector_blocks(int64_t, int64_t);
template std::vector<ReflectorBlock<double>> reflector_blocks(int64_t, int64_t);
template void fill_r(const ReflectorBlock<float>&, int64_t);
template void fill_r(const ReflectorBlock<double>&, int64_t);
template void apply(const ReflectorBlock<float>&, Side, const std::vector<PanelPart<float>>&, float*);
template void apply(const ReflectorBlock<double>&, Side, const std::vector<PanelPart<double>>&, double*);

}  // namespace pyinit
