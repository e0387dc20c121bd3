// Zeros at random places, chosen by torch's permutations.
#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "core/parallel.hpp"
#include "random/torch_elements.hpp"
#include "random/torch_fill.hpp"

namespace pyinit {

using namespace torch_stream;

namespace {

constexpr int64_t kColumnWords = 1 << 17;  // of columns permuted together

__extension__ using Wide = unsigned __int128;

// w % divisor, given 2^64 / divisor rounded up (Lemire, Kaser and Kurz 2019, "Faster remainder by direct
// computation").
uint64_t remainder(uint32_t w, uint64_t reciprocal, uint64_t divisor) {
  return static_cast<uint64_t>(static_cast<Wide>(reciprocal * w) * divisor >> 64);
}

}  // namespace

void torch_zero_rows(const View& view, TorchGenerator& g, int64_t zeros, int threads) {
  if (view.dims.size() != 2) throw std::invalid_argument("shape: needs two dimensions");
  const Dim rows = view.dims[0], columns = view.dims[1];
  if (zeros < 0 || zeros > rows.size) throw std::invalid_argument("zeros: must lie in [0, rows]");
  // From 2^32 / 20 rows on, torch draws two words a step.
  if (rows.size >= std::numeric_limits<uint32_t>::max() / 20) throw std::invalid_argument("shape: has too many rows");
  if (rows.size == 0) return;
  const int64_t steps = rows.size - 1;  // words a column: each step of the shuffle but the last
  std::vector<uint32_t> in_order(static_cast<size_t>(rows.size));
  std::iota(in_order.begin(), in_order.end(), 0U);
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    T* const data = reinterpret_cast<T*>(view.data);
    if (steps == 0) {
      for (int64_t c = 0; zeros == 1 && c < columns.size; ++c) data[c * columns.stride] = T{};
      return;
    }
    // Columns side by side share cache lines: up to 32 of them, as bits of their rows.
    const int64_t together = std::clamp<int64_t>(kColumnWords / steps, 1, 32);
    const int64_t drawn = std::min(zeros, steps);
    std::vector<uint64_t> reciprocals(static_cast<size_t>(drawn));
    for (int64_t i = 0; i < drawn; ++i) {
      reciprocals[static_cast<size_t>(i)] = ~uint64_t{0} / static_cast<uint64_t>(rows.size - i) + 1;
    }
    const auto zero_columns = [&](int64_t first_word, int64_t n, const uint32_t* words) {
      std::vector<uint32_t> tempered(static_cast<size_t>(drawn)), order(in_order.size());
      std::vector<uint32_t> marks(in_order.size());
      const int64_t first = first_word / steps, count = n / steps;
      for (int64_t c = 0; c < count; ++c) {
        const uint32_t column = uint32_t{1} << c;
        torch_kernels().temper(words + c * steps, drawn, tempered.data());
        std::copy(in_order.begin(), in_order.end(), order.begin());
        // Step i swaps place i with one from there on; place i is never looked at again.
        for (size_t i = 0; i < tempered.size(); ++i) {
          uint32_t& other = order[i + remainder(tempered[i], reciprocals[i], order.size() - i)];
          marks[other] |= column;
          other = order[i];
        }
        if (zeros > drawn) marks[order.back()] |= column;
      }
      for (int64_t r = 0; r < rows.size; ++r) {
        T* const row = data + r * rows.stride + first * columns.stride;
        constexpr int64_t kAhead = 8;  // rows are far apart in memory
        if (r + kAhead < rows.size) {
          __builtin_prefetch(row + kAhead * rows.stride, 1);
          __builtin_prefetch(row + kAhead * rows.stride + (count - 1) * columns.stride, 1);
        }
        for (uint32_t left = marks[static_cast<size_t>(r)]; left != 0; left &= left - 1) {
          row[std::countr_zero(left) * columns.stride] = T{};
        }
      }
    };
    mt19937::consume(g.mt, columns.size * steps, together * steps, usable_threads(threads, view.count(), kGrain),
                     zero_columns);
  });
}

}  // namespace pyinit
