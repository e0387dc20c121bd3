// Bias and activation, on outputs that have just been computed.
#pragma once

#include "conv/strip.hpp"

namespace pyinit {

// Of channels [first, first + channels) of a block.
template <class T>
void finish(const Epilogue<T>& epilogue, const Images<T>& output, const Block& block, int64_t first, int64_t channels);

}  // namespace pyinit
