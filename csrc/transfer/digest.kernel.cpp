// Words of 64 bits into a few, at the speed of reading them. Compiled once per instruction set.
#include "transfer/digest.hpp"

#include "simd/vec.hpp"

namespace pyinit::PYINIT_NS {
namespace {

constexpr int kVectors = kDigestLanes / kLanes64;
constexpr int64_t kStripe = kDigestLanes * sizeof(uint64_t);
constexpr uint64_t kStep = 0x9E3779B97F4A7C15U;  // 2^64 / the golden ratio: word n has the key (n + 1) kStep

// A change of one word always changes the chain, x ^ rotated(chain). Changes of several words may cancel out in the
// chain, but not in the sum of products, whose factors are the two halves of each word, keyed by its place (Black et
// al. 1999, "UMAC: fast and secure message authentication").
struct State {
  U64 chains[kVectors], sums[kVectors], key;

  PYINIT_METHOD void take(const char* stripe) {
    const auto* const words = reinterpret_cast<const uint64_t*>(stripe);
    for (int v = 0; v < kVectors; ++v) {
      const U64 x = load(words + v * kLanes64), keyed = x ^ key;
      chains[v] = xor3(shl<1>(chains[v]), shr<63>(chains[v]), x);
      sums[v] = sums[v] + mul_low(keyed, shr<32>(keyed));
      key = key + u64(kStep * kLanes64);
    }
  }
};

void digest(const char* data, int64_t bytes, uint64_t* chains, uint64_t* sums) {
  uint64_t keys[kLanes64];
  for (int i = 0; i < kLanes64; ++i) keys[i] = kStep * static_cast<uint64_t>(i + 1);
  State state{{}, {}, load(keys)};
  for (int v = 0; v < kVectors; ++v) state.chains[v] = state.sums[v] = u64(0);
  const int64_t whole = bytes / kStripe * kStripe;
  for (int64_t i = 0; i < whole; i += kStripe) state.take(data + i);
  if (whole < bytes) {
    char rest[kStripe] = {};
    std::memcpy(rest, data + whole, static_cast<size_t>(bytes - whole));
    state.take(rest);
  }
  for (int v = 0; v < kVectors; ++v) {
    store(chains + v * kLanes64, state.chains[v]);
    store(sums + v * kLanes64, state.sums[v]);
  }
}

}  // namespace

const DigestKernels digest_kernels = {digest};

}  // namespace pyinit::PYINIT_NS
