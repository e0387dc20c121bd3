// The ends of convolutions: zeros where nothing is summed, and bias and activation on outputs that have just been
// computed.
#pragma once

#include <limits>

#include "conv/strip.hpp"

namespace pyinit {

// Sets the whole output to zero, or channels [first, first + channels) of a block.
template <class T> void set_zero(const Images<T>& output);
template <class T> void set_zero(const Images<T>& output, const Block& block, int64_t first, int64_t channels);

// Applies bias and activation to channels [first, first + channels) of a block.
template <class T>
void finish(const Epilogue<T>& epilogue, const Images<T>& output, const Block& block, int64_t first, int64_t channels);

// The kernels store this in place of any smaller sum.
template <class T> T lowest(const Epilogue<T>& epilogue) {
  return epilogue.activation == Activation::relu ? T{0} : -std::numeric_limits<T>::infinity();
}

}  // namespace pyinit
