#include "random/torch_block_normal.hpp"
#include "random/torch_fill.hpp"
#include "random/torch_serial_normal.hpp"

namespace pyinit {

using namespace torch_stream;

void torch_normal(const View& view, TorchGenerator& g, double mean, double std, TorchArithmetic arithmetic,
                  int threads) {
  const int64_t count = view.count();
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    if (count >= 16 && is_contiguous(view)) {
      const BlockNormal<T> make(mean, std, arithmetic);
      T* const data = reinterpret_cast<T*>(view.data);
      block_pass<T>(g, count, threads, [&](int64_t, int64_t first, int64_t blocks, const uint32_t* words) {
        make(words, blocks, data + first);
      });
    } else {
      const Elements<T> elements(view);
      serial_pass<T>(
          SerialNormal(mean, std, arithmetic), g, count, threads, [](int64_t) { return true; },
          [&](int64_t first, int64_t n, const T* values) {
            elements.put(first, n, [&](int64_t done, int64_t m, T* out) { std::copy_n(values + done, m, out); });
          });
    }
  });
}

}  // namespace pyinit
