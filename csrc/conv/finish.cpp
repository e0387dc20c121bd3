#include "conv/finish.hpp"

#include <algorithm>

#include "activation/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kTogether = 256;  // elements that do not lie side by side, through a buffer

// f(x + bias) of elements `step` apart.
template <class T> void finish_run(const Epilogue<T>& epilogue, T bias, int64_t count, int64_t step, T* x) {
  const auto biased = activation_kernels<T>().biased[static_cast<int>(epilogue.activation)];
  if (step == 1) return biased(count, x, bias, x, epilogue.parameter);
  T values[kTogether];
  for (int64_t begin = 0; begin < count; begin += kTogether, x += kTogether * step) {
    const int64_t n = std::min(kTogether, count - begin);
    for (int64_t i = 0; i < n; ++i) values[i] = x[i * step];
    biased(n, values, bias, values, epilogue.parameter);
    for (int64_t i = 0; i < n; ++i) x[i * step] = values[i];
  }
}

// Pixels of few channels side by side, as many together as the buffer has biases for.
template <class T>
void finish_pixels(const Epilogue<T>& epilogue, const T* bias, int64_t channels, int64_t count, T* x) {
  const auto biased_row = activation_kernels<T>().biased_row[static_cast<int>(epilogue.activation)];
  const int64_t together = std::min(kTogether / channels, count);
  T biases[kTogether];
  for (int64_t i = 0; i < together; ++i) std::copy_n(bias, channels, biases + i * channels);
  for (int64_t begin = 0; begin < count; begin += together, x += together * channels) {
    biased_row(std::min(together, count - begin) * channels, x, biases, x, epilogue.parameter);
  }
}

}  // namespace

template <class T> void set_zero(const Images<T>& output) {
  set_zero(output, {0, output.batch, {0, 0, 0}, output.size}, 0, output.channels);
}

template <class T> void set_zero(const Images<T>& output, const Block& block, int64_t first, int64_t channels) {
  T* const data = output.at(block.image, first, block.begin);
  const int64_t width = block.size[2], step = output.strides[2];
  for_each_row(block, output.batch_stride, output.strides, [&](int64_t row) {
    if (output.channel_stride == 1) {
      for (int64_t w = 0; w < width; ++w) std::fill_n(data + row + w * step, channels, T{0});
      return;
    }
    for (int64_t c = 0; c < channels; ++c) {
      T* const to = data + row + c * output.channel_stride;
      if (step == 1) {
        std::fill_n(to, width, T{0});
      } else {
        for (int64_t w = 0; w < width; ++w) to[w * step] = 0;
      }
    }
  });
}

template <class T>
void finish(const Epilogue<T>& epilogue, const Images<T>& output, const Block& block, int64_t first, int64_t channels) {
  if (epilogue.bias == nullptr && epilogue.activation == Activation::none) return;
  const auto biased_row = activation_kernels<T>().biased_row[static_cast<int>(epilogue.activation)];
  // Dimensions that run on into one another are one.
  Extents size = block.size;
  size_t inner = kSpatial - 1;
  while (inner > 0 && output.strides[inner - 1] == output.size[inner] * output.strides[inner] &&
         block.size[inner] == output.size[inner]) {
    size[inner - 1] *= size[inner];
    size[inner] = 1;
    --inner;
  }
  const int64_t count = size[inner], step = output.strides[kSpatial - 1];
  size[inner] = 1;
  for (int64_t n = 0; n < block.images; ++n) {
    for (int64_t d = 0; d < size[0]; ++d) {
      for (int64_t h = 0; h < size[1]; ++h) {
        T* const row = output.at(block.image + n, first, {block.begin[0] + d, block.begin[1] + h, block.begin[2]});
        if (output.channel_stride == 1 && epilogue.bias != nullptr && step == channels && channels <= kTogether / 2) {
          finish_pixels(epilogue, epilogue.bias + first, channels, count, row);
        } else if (output.channel_stride == 1 && epilogue.bias != nullptr) {
          for (int64_t i = 0; i < count; ++i) {
            T* const pixel = row + i * step;
            biased_row(channels, pixel, epilogue.bias + first, pixel, epilogue.parameter);
          }
        } else if (output.channel_stride == 1 && step == channels) {
          finish_run(epilogue, T{0}, count * channels, 1, row);
        } else {
          for (int64_t c = 0; c < channels; ++c) {
            const T bias = epilogue.bias == nullptr ? T{0} : epilogue.bias[first + c];
            finish_run(epilogue, bias, count, step, row + c * output.channel_stride);
          }
        }
      }
    }
  }
}

template void set_zero(const Images<float>&);
template void set_zero(const Images<double>&);
template void set_zero(const Images<float>&, const Block&, int64_t, int64_t);
template void set_zero(const Images<double>&, const Block&, int64_t, int64_t);
template void finish(const Epilogue<float>&, const Images<float>&, const Block&, int64_t, int64_t);
template void finish(const Epilogue<double>&, const Images<double>&, const Block&, int64_t, int64_t);

}  // namespace pyinit
