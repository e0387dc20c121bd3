// A number that tells whether memory still holds what it held.
#pragma once

#include "core/isa.hpp"
#include "core/view.hpp"

namespace pyinit {

// The same bytes have the same number, whatever the instruction set and threads. Other bytes have it with a chance of
// 2^-64.
uint64_t digest(const void* data, int64_t bytes, int threads);

constexpr int kDigestLanes = 16;

struct DigestKernels {
  // A chain and a sum for each lane: word n belongs to lane n % kDigestLanes.
  void (*digest)(const char* data, int64_t bytes, uint64_t* chains, uint64_t* sums);
};

PYINIT_KERNEL_TABLE(DigestKernels, digest_kernels)

}  // namespace pyinit
