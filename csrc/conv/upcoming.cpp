#include "conv/upcoming.hpp"

#include <algorithm>
#include <array>

namespace pyinit {
namespace {

constexpr int64_t kCacheLine = 64;

struct Dim {
  int64_t stride, count;
};

}  // namespace

template <class T>
const void** add_pieces(const Images<const T>& images, int64_t first, int64_t channels, const Block& block,
                        const void** pieces, const void* const* end) {
  constexpr int64_t kLine = kCacheLine / int64_t{sizeof(T)}, kPiece = kPieceLines * kLine;
  std::array<Dim, kSpatial + 2> dims = {
      {{images.channel_stride, channels}, {images.batch_stride, block.images}, {}, {}, {}}};
  for (size_t i = 0; i < kSpatial; ++i) dims[2 + i] = {images.strides[i], block.size[i]};
  std::sort(dims.begin(), dims.end(), [](const Dim& a, const Dim& b) { return a.stride < b.stride; });
  // Elements between which no line lies are a run. The other dimensions are walked through.
  int64_t run = 1;
  size_t walked = 0;
  for (const Dim& dim : dims) {
    if (dim.count == 1) continue;
    if (walked == 0 && dim.stride < run + kLine) {
      run += (dim.count - 1) * dim.stride;
    } else {
      dims[walked++] = dim;
    }
  }
  std::array<int64_t, kSpatial + 2> at = {};
  const T* from = images.at(block.image, first, block.begin);
  for (size_t d = 0; pieces != end;) {
    for (int64_t i = 0; i < run && pieces != end; i += kPiece) *pieces++ = from + i;
    for (d = 0; d < walked; ++d) {
      from += dims[d].stride;
      if (++at[d] < dims[d].count) break;
      from -= dims[d].stride * dims[d].count;
      at[d] = 0;
    }
    if (d == walked) break;
  }
  return pieces;
}

template const void** add_pieces<float>(const Images<const float>&, int64_t, int64_t, const Block&, const void**,
                                        const void* const*);
template const void** add_pieces<double>(const Images<const double>&, int64_t, int64_t, const Block&, const void**,
                                         const void* const*);

}  // namespace pyinit
