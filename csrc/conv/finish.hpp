// Zeros where nothing is summed; bias and activation, on outputs that have just been computed.
#pragma once

#include "conv/strip.hpp"

namespace pyinit {

// All of it, and channels [first, first + channels) of a block.
template <class T> void set_zero(const Images<T>& output);
template <class T> void set_zero(const Images<T>& output, const Block& block, int64_t first, int64_t channels);

// Of channels [first, first + channels) of a block.
template <class T>
void finish(const Epilogue<T>& epilogue, const Images<T>& output, const Block& block, int64_t first, int64_t channels);

}  // namespace pyinit
