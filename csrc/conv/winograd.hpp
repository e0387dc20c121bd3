// Correlations of 3 x 3 taps by Winograd's minimal filtering F(2x2, 3x3): 16 multiplications for each tile of 2 x 2
// outputs instead of 36.
#pragma once

#include "conv/correlation.hpp"

namespace pyinit {

// Whether one is computed like that: sizes of channels and images say it, but no batch size.
bool goes_by_winograd(const Correlation<float>& correlation);

// Computes one for which this is true.
void correlate_by_winograd(const Correlation<float>& correlation, const Epilogue<float>& epilogue, int threads);

}  // namespace pyinit
