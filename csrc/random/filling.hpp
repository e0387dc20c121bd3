// A view filled by a kernel that makes elements from their indices: in place, or tile by tile where the strides ask
// for it, by any number of threads.
#pragma once

#include <algorithm>

#include "core/parallel.hpp"
#include "random/kernels.hpp"
#include "random/moments.hpp"
#include "random/tiling.hpp"

namespace pyinit {

constexpr int64_t kFillGrain = 1 << 16;  // elements that are worth a thread
constexpr int64_t kFillAlign = 256;      // borders between threads, in elements

// A view, what to put there, and the kernel that makes it. Its units are elements where these are written in place,
// else tiles.
template <class Params> class Filling {
 public:
  Filling(const View& view, const Stream& stream, const Params& params, const Generate<Params> (&table)[kDTypes])
      : data_(view.data),
        dtype_(view.dtype),
        count_(view.count()),
        stream_(stream),
        params_(params),
        generate_(table[static_cast<int>(view.dtype)]),
        tiling_(coalesce(view)) {}

  bool is_direct() const { return tiling_.is_direct(); }
  int64_t units() const { return is_direct() ? count_ : tiling_.tiles(); }

  void run(int64_t begin, int64_t end) const {
    if (is_direct()) return in_place(begin, end, [](const void*, int64_t) {});
    in_tiles(begin, end, [](const void*, int64_t) {});
  }

  // The same, and what the elements are, each measured while it is in the cache.
  Moments run_and_measure(int64_t begin, int64_t end) const {
    Moments all;
    const auto add = [&](const void* values, int64_t n) { all = all + measure(values, dtype_, n); };
    if (is_direct()) {
      for (int64_t i = begin; i < end; i += kMeasured) in_place(i, std::min(end, i + kMeasured), add);
    } else {
      in_tiles(begin, end, add);
    }
    return all;
  }

 private:
  // Both call written(values, count) for what they have written, side by side.
  template <class Written> void in_place(int64_t begin, int64_t end, Written&& written) const {
    tiling_.for_each_run(begin, end, [&](uint64_t index, int64_t n, int64_t offset) {
      void* const to = data_ + offset * size_of(dtype_);
      generate_(params_, stream_, {index, n}, to);
      written(to, n);
    });
  }

  template <class Written> void in_tiles(int64_t begin, int64_t end, Written&& written) const {
    const auto in_units_of = [&](auto unit) {
      decltype(unit) buffer[kTile];
      for (int64_t t = begin; t < end; ++t) {
        const auto [values, n] =
            tiling_.fill_tile(t, buffer, [&](const Rows& rows, void* to) { generate_(params_, stream_, rows, to); });
        written(values, n);
      }
    };
    switch (size_of(dtype_)) {
      case 2: return in_units_of(uint16_t{});
      case 4: return in_units_of(uint32_t{});
      default: return in_units_of(uint64_t{});
    }
  }

  char* data_;
  DType dtype_;
  int64_t count_;
  Stream stream_;
  Params params_;
  Generate<Params> generate_;
  Tiling tiling_;
};

// All of a view that has elements.
template <class Params>
void fill_by(const Generate<Params> (&table)[kDTypes], const View& view, const Stream& stream, const Params& params,
             int threads) {
  const Filling fill(view, stream, params, table);
  const int team = usable_threads(threads, view.count(), kFillGrain);
  parallel_pieces(team, fill.units(), fill.is_direct() ? kFillAlign : 1, fill.is_direct() ? 1 : kTile,
                  [&](int64_t begin, int64_t end) { fill.run(begin, end); });
}

}  // namespace pyinit
