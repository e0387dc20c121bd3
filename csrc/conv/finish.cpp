#include "conv/finish.hpp"

namespace pyinit {

template <class T>
void finish(const Epilogue<T>& epilogue, const Images<T>& output, const Block& block, int64_t first, int64_t channels) {
  if (epilogue.bias == nullptr && epilogue.activation == Activation::none) return;
  for (int64_t n = 0; n < block.images; ++n)
    for (int64_t d = 0; d < block.size[0]; ++d)
      for (int64_t h = 0; h < block.size[1]; ++h)
        for (int64_t c = first; c < first + channels; ++c) {
          T* row = output.data + (block.image + n) * output.batch_stride + c * output.channel_stride +
                   (block.begin[0] + d) * output.strides[0] + (block.begin[1] + h) * output.strides[1] +
                   block.begin[2] * output.strides[2];
          const T b = epilogue.bias ? epilogue.bias[c] : T{0};
          for (int64_t w = 0; w < block.size[2]; ++w) {
            T& v = row[w * output.strides[2]];
            v += b;
            if (epilogue.activation == Activation::relu && v < 0) v = 0;
          }
        }
}

template void finish(const Epilogue<float>&, const Images<float>&, const Block&, int64_t, int64_t);
template void finish(const Epilogue<double>&, const Images<double>&, const Block&, int64_t, int64_t);

}  // namespace pyinit
