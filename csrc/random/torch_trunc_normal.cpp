// Truncated normals that torch draws again until all lie within the bounds.
#include <atomic>
#include <bit>
#include <stdexcept>
#include <vector>

#include "core/rounding.hpp"
#include "random/torch_block_normal.hpp"
#include "random/torch_fill.hpp"
#include "random/torch_serial_normal.hpp"

namespace pyinit {

using namespace torch_stream;

namespace {

constexpr int kMostPasses = 256;  // each leaves at most 0.7 of the elements: 1e-40 of them in the end

struct Bounds {
  double low, high;  // values of the dtype
};

// Draws the elements that are marked again until none is; a mark is a bit of its block.
template <class T>
bool trunc_by_blocks(T* data, int64_t count, TorchGenerator& g, const BlockNormal<T>& make, const Bounds& bounds,
                     int threads) {
  constexpr int64_t kWords = 16 * kWordsPerElement<T>;
  const auto mark_outside = [&](const T* x, int64_t blocks, uint16_t* marks) {
    return torch_kernels().mark_outside[static_cast<int>(kDType<T>)](x, blocks, bounds.low, bounds.high, marks);
  };
  const int64_t rest = count % 16;
  std::vector<uint16_t> marks(static_cast<size_t>(count / 16 + (rest != 0)));
  std::atomic<int64_t> pending{0};
  block_pass<T>(g, count, threads, [&](int64_t block, int64_t first, int64_t blocks, const uint32_t* words) {
    make(words, blocks, data + first);
    pending += mark_outside(data + first, blocks, &marks[static_cast<size_t>(block)]);
  });
  // What the last 16 elements have drawn anew does not count in the block before.
  if (rest != 0) {
    uint16_t& last = marks[marks.size() - 2];
    const auto kept = static_cast<uint16_t>(last & ((1U << rest) - 1));
    if (last != 0 && kept == 0) --pending;
    last = kept;
  }
  for (int pass = 1; pending != 0; ++pass) {
    if (pass == kMostPasses) return false;
    pending = 0;
    block_pass<T>(g, count, threads, [&](int64_t block, int64_t first, int64_t blocks, const uint32_t* words) {
      constexpr int64_t kBlocks = kBatch / 16;
      uint32_t gathered[kBlocks * kWords] = {};
      int64_t chosen[kBlocks], n = 0, marked = 0;
      const auto redraw = [&] {
        T drawn[kBatch];
        uint16_t outside[kBlocks];
        make(gathered, n, drawn);
        mark_outside(drawn, n, outside);
        for (int64_t k = 0; k < n; ++k) {
          uint16_t& m = marks[static_cast<size_t>(block + chosen[k])];
          for (unsigned left = m; left != 0; left &= left - 1) {
            const int j = std::countr_zero(left);
            data[first + 16 * chosen[k] + j] = drawn[16 * k + j];
          }
          m &= outside[k];
          marked += m != 0;
        }
        n = 0;
      };
      for (int64_t i = 0; i < blocks; ++i) {
        if (marks[static_cast<size_t>(block + i)] == 0) continue;
        std::copy_n(words + i * kWords, kWords, gathered + n * kWords);
        chosen[n++] = i;
        if (n == kBlocks) redraw();
      }
      redraw();
      pending += marked;
    });
  }
  return true;
}

template <class T>
bool trunc_serially(T* data, int64_t count, TorchGenerator& g, const SerialNormal& normal, const Bounds& bounds,
                    int threads) {
  std::vector<uint8_t> marks(static_cast<size_t>(count), 1);
  std::atomic<int64_t> pending{count};
  for (int pass = 0; pending != 0; ++pass) {
    if (pass == kMostPasses) return false;
    pending = 0;
    serial_pass<T>(
        normal, g, count, threads, [&](int64_t i) { return marks[static_cast<size_t>(i)] != 0; },
        [&](int64_t first, int64_t n, const T* values) {
          int64_t marked = 0;
          for (int64_t i = 0; i < n; ++i) {
            uint8_t& m = marks[static_cast<size_t>(first + i)];
            if (m == 0) continue;
            data[first + i] = values[i];
            const double x = value_of(values[i]);
            m = x < bounds.low || x > bounds.high;
            marked += m;
          }
          pending += marked;
        });
  }
  return true;
}

}  // namespace

bool torch_trunc_normal(const View& view, TorchGenerator& g, double mean, double std, double low, double high,
                        TorchArithmetic arithmetic, int threads) {
  if (!is_dense(view)) throw std::invalid_argument("strides: must be those of dense memory");
  const int64_t count = view.count();
  // As torch rounds the bounds: to a float on the way to a 16-bit number.
  const auto rounded = [&](double bound) {
    return round_to(view.dtype, size_of(view.dtype) == 2 ? round_to(DType::f32, bound) : bound);
  };
  return visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    T* const data = reinterpret_cast<T*>(view.data);
    const Bounds bounds{rounded(low), rounded(high)};
    if (count >= 16 && is_contiguous(view)) {
      return trunc_by_blocks<T>(data, count, g, BlockNormal<T>(mean, std, arithmetic), bounds, threads);
    }
    return trunc_serially<T>(data, count, g, SerialNormal(mean, std, arithmetic), bounds, threads);
  });
}

}  // namespace pyinit
