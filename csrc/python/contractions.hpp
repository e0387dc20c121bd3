// The kernels of convolutions on what Python passes.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>
#include <variant>

#include "conv/packed_weights.hpp"
#include "conv/winograd_weights.hpp"
#include "python/target.hpp"

// What Python keeps between calls, in a capsule of that name.
using PackedWeight = std::variant<pyinit::PackedWeights<float>, pyinit::PackedWeights<double>, pyinit::WinogradWeights>;
constexpr const char* kPackedWeight = "PackedWeight";

// A weight, alone or paired with the same one packed.
struct Weight : Target {
  const PackedWeight* packed = nullptr;
};

template <bool transposed>
void convolution(const Target& input, const std::conditional_t<transposed, Target, Weight>& weight,
                 const std::optional<Target>& bias, const Target& output, const pyinit::Integers& stride,
                 const pyinit::Integers& padding, const pyinit::Integers& dilation, int64_t groups, int activation,
                 double parameter, int threads);

void channel_sums(const Target& input, const Target& sums, int threads);

void weight_gradient(const Target& input, const Target& output, const Target& weight, const pyinit::Integers& stride,
                     const pyinit::Integers& padding, const pyinit::Integers& dilation, int64_t groups, int threads);
