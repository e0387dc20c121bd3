#include "transfer/digest.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "core/parallel.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrainBytes = 1 << 18;  // worth a thread
constexpr int64_t kBlock = 1 << 16;       // bytes that have a digest of their own

// Another digest for another word, and another word for another digest.
uint64_t mixed(uint64_t digest, uint64_t word) { return (std::rotl(digest, 23) ^ word) * 0x9E3779B185EBCA87U; }

uint64_t digest_block(const char* data, int64_t bytes) {
  uint64_t chains[kDigestLanes], sums[kDigestLanes], digest = 0;
  digest_kernels().digest(data, bytes, chains, sums);
  for (int i = 0; i < kDigestLanes; ++i) digest = mixed(mixed(digest, chains[i]), sums[i]);
  return digest;
}

}  // namespace

uint64_t digest(const void* data, int64_t bytes, int threads) {
  std::vector<uint64_t> blocks(static_cast<size_t>(divide_up(bytes, kBlock)));
  parallel_ranges(usable_threads(threads, bytes, kGrainBytes), std::ssize(blocks), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * kBlock;
      blocks[static_cast<size_t>(i)] =
          digest_block(static_cast<const char*>(data) + first, std::min(kBlock, bytes - first));
    }
  });
  uint64_t all = 0;
  for (const uint64_t block : blocks) all = mixed(all, block);
  return all;
}

}  // namespace pyinit
