// Convolutions of up to three spatial dimensions, and what their gradients are made of.
#pragma once

#include <array>
#include <cstdint>

#include "activation/activation.hpp"

namespace pyinit {

constexpr int kSpatial = 3;
using Extents = std::array<int64_t, kSpatial>;

// A tensor of images (batch, channels, depth, height, width) or of filters (output channels, input channels of a
// group, and the kernel's extents), with strides in elements. Images of fewer dimensions are one deep, or one high.
template <class T> struct Images {
  T* data;
  int64_t batch, channels;
  Extents size;
  int64_t batch_stride, channel_stride;
  Extents strides;

  int64_t pixels() const { return size[0] * size[1] * size[2]; }
  T* at(int64_t image, int64_t channel, const Extents& p) const {
    return data + image * batch_stride + channel * channel_stride + p[0] * strides[0] + p[1] * strides[1] +
           p[2] * strides[2];
  }
};

// How a kernel moves. Padding is that in front; behind, there is as much as the output's size takes.
struct Window {
  Extents stride, padding, dilation;
  int64_t groups;
};

// What becomes of each sum: activation(sum + bias[channel]). The bias may be null.
template <class T> struct Epilogue {
  const T* bias;
  Activation activation;
  T parameter;
};

template <class T> class PackedWeights;
class WinogradWeights;

// The same weights once more, in the ways in which they are read. The bits do not depend on what is there.
template <class T> struct Packed {
  const PackedWeights<T>* panels = nullptr;
  const WinogradWeights* points = nullptr;
};
enum class Packing : int { none, panels, points };

// output(n, o, p) = the sum of weight(o, i, t) input(n, group + i, p stride - padding + t dilation) over i and t, where
// input is 0 outside. Sizes must fit together and output must not overlap itself or anything else: nothing is checked.
template <class T>
void convolve(const Window& window, const Images<const T>& input, const Images<const T>& weight,
              const Epilogue<T>& epilogue, const Images<T>& output, int threads, const Packed<T>& packed = {});

// How this convolution reads its weights.
template <class T>
Packing packing_of(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                   const Images<T>& output);

// Whether float32 convolutions of 3 x 3 taps, and their gradients, may be computed by Winograd's minimal filtering:
// true from the start.
void set_winograd(bool is_used);
bool winograd();

// The transposed map, which is convolve's gradient by its input: `input` has the channels that weight's first extent
// counts, `output` those of the second, for each group.
template <class T>
void convolve_transposed(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                         const Epilogue<T>& epilogue, const Images<T>& output, int threads);

// convolve's gradient by its weight, from that by its output.
template <class T>
void convolve_weight_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                              const Images<T>& weight, int threads);

// sums[c * stride] = the sum of all pixels of channel c: the gradient by the bias.
template <class T> void sum_channels(const Images<const T>& images, T* sums, int64_t stride, int threads);

}  // namespace pyinit
