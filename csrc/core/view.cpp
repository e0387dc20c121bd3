#include "core/view.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

namespace pyinit {

int64_t count_of(const InlineVector<Dim>& dims) {
  int64_t n = 1;
  for (const Dim& d : dims) n *= d.size;
  return n;
}

int64_t View::count() const { return count_of(dims); }

View make_view(char* data, DType dtype, const Integers& shape, const Integers& strides, const Integers& whole,
               const Integers& start) {
  const size_t n = shape.size();
  if (strides.size() != n) throw std::invalid_argument("strides: must be as many as dimensions");
  if (whole.size() != start.size()) throw std::invalid_argument("whole, start: give both or neither");
  const bool is_block = !whole.empty();
  if (is_block && whole.size() != n) throw std::invalid_argument("whole, start: must be as many as dimensions");
  View view{data, dtype, {}, 0};
  for (size_t i = 0; i < n; ++i) view.dims.push_back({shape[i], strides[i], 0});
  int64_t index_stride = 1;
  for (size_t i = n; i-- > 0;) {
    const int64_t extent = is_block ? whole[i] : shape[i];
    const int64_t origin = is_block ? start[i] : 0;
    if (shape[i] < 0) throw std::invalid_argument("shape: must not be negative");
    if (origin < 0 || origin > extent - shape[i]) {
      throw std::invalid_argument("start: the block [" + std::to_string(origin) + ", " +
                                  std::to_string(origin + shape[i]) + ") of dimension " + std::to_string(i) +
                                  " does not lie in whole's " + std::to_string(extent));
    }
    view.dims[i].index_stride = index_stride;
    view.first_index += static_cast<uint64_t>(origin * index_stride);
    if (__builtin_mul_overflow(index_stride, std::max<int64_t>(extent, 1), &index_stride)) {
      throw std::invalid_argument("whole: has more than 2^63 elements");
    }
  }
  return view;
}

View coalesce(const View& v) {
  View out{v.data, v.dtype, {}, v.first_index};
  for (const Dim& d : v.dims) {
    if (d.size == 1) continue;
    if (!out.dims.empty()) {
      Dim& last = out.dims.back();
      if (last.stride == d.size * d.stride && last.index_stride == d.size * d.index_stride) {
        last = {last.size * d.size, d.stride, d.index_stride};
        continue;
      }
    }
    out.dims.push_back(d);
  }
  if (out.dims.empty()) out.dims.push_back({1, 1, 1});
  return out;
}

InlineVector<Dim> joined(const InlineVector<Dim>& dims) {
  InlineVector<Dim> out;
  for (const Dim& d : dims) {
    if (d.size == 1) continue;
    if (!out.empty() && out.back().stride == d.size * d.stride) {
      out.back() = {out.back().size * d.size, d.stride, 0};
    } else {
      out.push_back({d.size, d.stride, 0});
    }
  }
  if (out.empty()) out.push_back({1, 1, 0});
  return out;
}

InlineVector<Dim> memory_order(const View& v) {
  InlineVector<Dim> sorted;
  for (const Dim& d : v.dims) {
    if (d.size != 1) sorted.push_back(d);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const Dim& a, const Dim& b) { return std::abs(a.stride) > std::abs(b.stride); });
  return joined(sorted);
}

bool is_one_run(const InlineVector<Dim>& dims) {
  return dims.size() == 1 && (dims[0].stride == 1 || dims[0].size == 1);
}

bool is_dense(const View& v) { return v.count() == 0 || is_one_run(memory_order(v)); }

bool non_overlapping(const Integers& shape, const Integers& strides) {
  InlineVector<std::pair<int64_t, int64_t>> dims;  // |stride|, size
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) return true;
    if (shape[i] > 1) dims.push_back({std::abs(strides[i]), shape[i]});
  }
  std::sort(dims.begin(), dims.end());
  int64_t reach = 0;  // the largest offset that the dims so far can make
  for (const auto& [stride, size] : dims) {
    if (stride <= reach) return false;
    reach += stride * (size - 1);
  }
  return true;
}

void prefer_huge_pages([[maybe_unused]] const View& v) {
#ifdef MADV_HUGEPAGE
  constexpr int64_t kHuge = int64_t{1} << 21;
  const int64_t bytes = v.count() * size_of(v.dtype);
  if (bytes < 2 * kHuge || !is_dense(v)) return;
  const auto address = reinterpret_cast<uintptr_t>(v.data);
  const uintptr_t begin = (address + kHuge - 1) / kHuge * kHuge;
  const uintptr_t end = (address + static_cast<uintptr_t>(bytes)) / kHuge * kHuge;
  // A kernel without them refuses, and nothing is lost.
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace pyinit
