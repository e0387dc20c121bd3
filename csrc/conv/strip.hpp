// The part of some images that a block of outputs takes, copied with zeros around it, so that whoever reads it needs to
// know nothing of borders: the place of a tap relative to its output is the same for all outputs.
#pragma once

#include <vector>

#include "conv/convolution.hpp"

namespace pyinit {

using Taps = std::array<std::vector<int64_t>, kSpatial>;  // along each dimension

inline int64_t count(const Taps& taps) {
  return static_cast<int64_t>(taps[0].size() * taps[1].size() * taps[2].size());
}

// Along each dimension, output p takes inputs p * step + taps[i]. Taps ascend.
struct Reach {
  Extents step;
  Taps taps;
};

// A block of outputs: of some images those pixels that a box holds.
struct Block {
  int64_t image, images;
  Extents begin, size;

  int64_t pixels() const { return images * size[0] * size[1] * size[2]; }
};

// f(offset, other) for each row of a block's pixels, in two places: the distances of images and along the dimensions
// are given for each.
template <class F>
void for_each_row_of_two(const Block& block, int64_t image, const Extents& step, int64_t other_image,
                         const Extents& other_step, F&& f) {
  for (int64_t n = 0; n < block.images; ++n) {
    for (int64_t d = 0; d < block.size[0]; ++d) {
      for (int64_t h = 0; h < block.size[1]; ++h) {
        f(n * image + d * step[0] + h * step[1], n * other_image + d * other_step[0] + h * other_step[1]);
      }
    }
  }
}
// f(offset) with the distances of one.
template <class F> void for_each_row(const Block& block, int64_t image, const Extents& step, F&& f) {
  for_each_row_of_two(block, image, step, 0, {}, [&](int64_t offset, int64_t) { f(offset); });
}
// Where a block's pixels lie if the first of them lies at `first`.
inline void fill_offsets(const Block& block, int64_t image, const Extents& step, int64_t* offsets, int64_t first = 0) {
  const int64_t width = block.size[2], along = step[2];
  for_each_row(block, image, step, [&](int64_t row) {
    for (int64_t w = 0; w < width; ++w) offsets[w] = first + row + w * along;
    offsets += width;
  });
}

// What lies side by side: pixels of one channel, or channels of one pixel.
enum class Order { pixels, channels };

// Where to read: channel c that tap t of pixel p in image n of a block takes is data[c * channel + n * image + p * step
// + the tap's offset]. Reading as far as `end` does no harm.
template <class T> struct Source {
  const T* data;
  const T* end;
  int64_t channel, image;
  Extents step;
};

// Where a strip has what outputs take along one dimension: not what lies between taps that are far apart, nor between
// outputs if the step leaves some out. Output p takes tap i of the reach at place p * step + places[i].
struct StripAxis {
  // `count` inputs, `unit` apart, from one on that is so far from the first output's least tap. They are for the
  // largest block; one that is an output shorter takes `step` fewer.
  struct Segment {
    int64_t first, count, place;
  };
  int64_t unit, step, count;
  std::vector<Segment> segments;
  std::vector<int64_t> places;

  // Of so many outputs at most. Inputs of one remainder by the step lie side by side if `by_remainder`, else as they
  // come.
  StripAxis(const std::vector<int64_t>& taps, int64_t step, int64_t outputs, bool by_remainder);
};

class Strip {
 public:
  // For blocks of at most this size.
  Strip(const Reach& reach, Order order, const Block& largest, int64_t channels);

  int64_t size() const { return size_; }  // in elements
  // From what a row of outputs takes to what the next one does.
  int64_t row_step() const { return axes_[1].step * strides_[1]; }
  // Offsets of all taps of the reach, the last dimension's fastest.
  const std::vector<int64_t>& taps() const { return taps_; }
  // Those of taps of which each dimension's are within the reach's.
  std::vector<int64_t> offsets(const Taps& taps) const;

  // Copies channels [first, first + channels) into `strip`, of size() elements.
  template <class T>
  Source<T> fill(const Images<const T>& images, const Block& block, int64_t first, int64_t channels, T* strip) const;

 private:
  template <class T>
  void fill_row(const Images<const T>& images, const T* row, int64_t x, int64_t width, int64_t first, int64_t channels,
                T* out) const;

  Order order_;
  Reach reach_;
  Block largest_;
  std::array<StripAxis, kSpatial> axes_;
  int64_t channel_, image_;
  Extents strides_;  // between places
  int64_t size_;
  std::vector<int64_t> taps_;
};

// Inputs of a channel that a strip would have.
int64_t strip_inputs(const Reach& reach, Order order, const Block& largest);

// What a convolution takes.
Reach reach_of(const Window& window, const Extents& kernel);

// The offsets that taps have where images are read as they are, and those of all taps of filters.
template <class T> std::vector<int64_t> tap_offsets(const Taps& taps, const Images<T>& images);
template <class T> std::vector<int64_t> tap_offsets(const Images<T>& filters);

// Where a block of channels from `first` on can be read without a copy: all that it takes is inside.
template <class T> bool is_inside(const Reach& reach, const Images<const T>& images, const Extents& outputs);
template <class T>
Source<T> as_it_is(const Reach& reach, const Images<const T>& images, const Block& block, int64_t first);

}  // namespace pyinit
