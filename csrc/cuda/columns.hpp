// im2col and col2im on a CUDA device: the values that the CPU makes, bit for bit, but for the bits of NaNs that are
// sums.
#pragma once

#include "conv/columns.hpp"
#include "cuda/queue.hpp"

namespace pyinit::cuda {

// As pyinit::im2col and pyinit::col2im, of device memory. They do not wait for the device.
template <class T>
void im2col(const Window& window, const Images<const T>& images, const Columns<T>& columns, const Queue& queue);
template <class T>
void col2im(const Window& window, const Columns<const T>& columns, const Images<T>& images, const Queue& queue);

}  // namespace pyinit::cuda
