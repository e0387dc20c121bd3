// Fills with the numbers that torch's own CPU code draws, on any number of threads: values and generator
// end up as there, bit for bit.
#pragma once

#include <functional>
#include <vector>

#include "core/view.hpp"
#include "random/torch_generator.hpp"

namespace pyinit {

// How torch's build rounds: its AVX2 code, or the C library's functions one element at a time, with
// products and sums rounded once or twice.
enum class TorchArithmetic : int { vector, libm_fused, libm };
constexpr int kTorchArithmetics = 3;

void torch_uniform(const View& view, TorchGenerator& g, double low, double high, TorchArithmetic arithmetic,
                   int threads);

void torch_normal(const View& view, TorchGenerator& g, double mean, double std, TorchArithmetic arithmetic,
                  int threads);

// Normals drawn again, in passes over the whole tensor, until all lie in [low, high], rounded
// to the dtype. Takes dense memory. False, the tensor half filled, where that seems to have no end.
bool torch_trunc_normal(const View& view, TorchGenerator& g, double mean, double std, double low, double high,
                        TorchArithmetic arithmetic, int threads);

// The density exp(-((x - mean) / std)^2 / 2 - log_peak) on [low, high), whose largest value is 1.
struct TruncNormalDensity {
  double mean, std, low, high, log_peak;
};

// Replaces numbers by their logarithms as torch computes them for the tensor's dtype. Called once in each
// pass, from the calling thread; may throw.
using AskTorchsLog = std::function<void(std::vector<double>&)>;

// Uniform proposals for the whole tensor, and a second number for each that decides whether it stays, in
// passes until all do. Takes dense memory.
void torch_reject_trunc_normal(const View& view, TorchGenerator& g, const TruncNormalDensity& density,
                               TorchArithmetic arithmetic, const AskTorchsLog& ask, int threads);

// Zeros in the rows that come first in a random permutation (torch.randperm) of each column.
void torch_zero_rows(const View& view, TorchGenerator& g, int64_t zeros, int threads);

}  // namespace pyinit
