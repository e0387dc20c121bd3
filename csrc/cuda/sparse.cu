#include "cuda/sparse.hpp"

#include <limits>
#include <stdexcept>

#include "core/integers.hpp"
#include "cuda/fill.hpp"
#include "cuda/philox.hpp"
#include "cuda/runtime.hpp"

namespace pyinit::cuda {
namespace {

constexpr int kThreads = 64;  // few: even matrices of a few thousand columns reach many multiprocessors
constexpr int kRows = 4;      // whose words are made side by side, while only the choices wait for each other

// Selection sampling down a column of each thread: zeros to the chosen places. Bits is an unsigned type of the
// elements' size.
template <class Bits>
__global__ void set_chosen_to_zero(Bits* data, Dim rows, Dim columns, Stream choice, uint32_t zeros) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= columns.size) return;
  uint32_t remaining = zeros;
  for (int64_t row = 0; row < rows.size && remaining > 0; row += kRows) {
    uint32_t words[kRows];
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      words[j] = philox_word(choice, static_cast<uint64_t>((row + j) * columns.size + column));
    }
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      // Past the last row nothing remains.
      const uint32_t left = static_cast<uint32_t>(rows.size - (row + j));
      if (remaining > 0 && static_cast<uint32_t>(uint64_t{words[j]} * left >> 32) < remaining) {
        data[(row + j) * rows.stride + column * columns.stride] = 0;
        --remaining;
      }
    }
  }
}

template <class Bits> void choose(const View& view, const Stream& choice, int64_t zeros, const Queue& queue) {
  const Dim rows = view.dims[0], columns = view.dims[1];
  const int threads = threads_of_block(kThreads);
  launch(set_chosen_to_zero<Bits>, divide_up(columns.size, threads), threads, queue, reinterpret_cast<Bits*>(view.data),
         rows, columns, choice, static_cast<uint32_t>(zeros));
}

}  // namespace

void fill_sparse(const View& view, const Stream& stream, int64_t zeros, double std, const Queue& queue) {
  if (view.dims.size() != 2) throw std::invalid_argument("shape: needs two dimensions");
  const int64_t rows = view.dims[0].size;
  if (zeros < 0 || zeros > rows) throw std::invalid_argument("zeros: must lie in [0, rows]");
  if (rows > std::numeric_limits<int32_t>::max()) throw std::invalid_argument("shape: takes fewer than 2^31 rows");
  if (view.count() == 0) return;
  fill_many({{view, stream, Distribution::normal, {0, std, 0, 0}}}, queue);
  if (zeros == 0) return;
  const Stream choice{stream.key, stream.id + 1};
  switch (size_of(view.dtype)) {
    case 2: return choose<uint16_t>(view, choice, zeros, queue);
    case 4: return choose<uint32_t>(view, choice, zeros, queue);
    default: return choose<uint64_t>(view, choice, zeros, queue);
  }
}

}  // namespace pyinit::cuda
