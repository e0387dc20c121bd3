// What a product is to have in the second cache when its turn comes, for the kernels that ask for it.
#pragma once

#include "conv/gradient_kernels.hpp"
#include "conv/strip.hpp"

namespace pyinit {

// Channels [first, first + channels) of a block's pixels are pieces of memory from `pieces` on, as many as there is
// room for before `end`. Returns where they end.
template <class T>
const void** add_pieces(const Images<const T>& images, int64_t first, int64_t channels, const Block& block,
                        const void** pieces, const void* const* end);

}  // namespace pyinit
