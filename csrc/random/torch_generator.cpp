#include "random/torch_generator.hpp"

#include <cstring>

namespace pyinit {
namespace {

// The fields of at::CPUGeneratorImplState: std::mt19937's legacy record, then the cached normal.
constexpr size_t kLeft = 8, kSeeded = 12, kNext = 16, kWords = 24, kCachedNormal = 5024, kHasCachedNormal = 5040;

template <class T> T read(const unsigned char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}
template <class T> void write(unsigned char* bytes, T value) { std::memcpy(bytes, &value, sizeof value); }

}  // namespace

bool read_state(const unsigned char* bytes, TorchGenerator& g) {
  const auto left = read<int32_t>(bytes + kLeft);
  const auto next = read<uint64_t>(bytes + kNext);
  const auto has_cached_normal = read<int32_t>(bytes + kHasCachedNormal);
  // Either no word of the block has been used since seeding, and none is to be, or `next` of them have.
  const bool is_seed = next == 0 && left == 1;
  if (!is_seed && !(next >= 1 && next <= mt19937::kBlock && left == mt19937::kBlock + 1 - static_cast<int64_t>(next))) {
    return false;
  }
  if (read<int32_t>(bytes + kSeeded) != 1 || (has_cached_normal != 0 && has_cached_normal != 1)) return false;
  uint64_t all = 0;
  for (size_t i = 0; i < mt19937::kBlock; ++i) {
    const auto word = read<uint64_t>(bytes + kWords + 8 * i);
    g.mt.words[i] = static_cast<uint32_t>(word);
    all |= word;
  }
  g.mt.used = is_seed ? mt19937::kBlock : static_cast<int64_t>(next);
  g.has_cached_normal = has_cached_normal == 1;
  g.cached_normal = read<double>(bytes + kCachedNormal);
  return all >> 32 == 0;
}

void write_state(const TorchGenerator& g, unsigned char* bytes) {
  bool is_same = g.mt.used == mt19937::kBlock;
  for (size_t i = 0; is_same && i < mt19937::kBlock; ++i)
    is_same = read<uint64_t>(bytes + kWords + 8 * i) == g.mt.words[i];
  // A seed that no word was drawn from stays as it is.
  if (!(is_same && read<uint64_t>(bytes + kNext) == 0)) {
    write<int32_t>(bytes + kLeft, static_cast<int32_t>(mt19937::kBlock + 1 - g.mt.used));
    write<uint64_t>(bytes + kNext, static_cast<uint64_t>(g.mt.used));
    for (size_t i = 0; i < mt19937::kBlock; ++i) write<uint64_t>(bytes + kWords + 8 * i, g.mt.words[i]);
  }
  write<int32_t>(bytes + kHasCachedNormal, g.has_cached_normal ? 1 : 0);
  write<double>(bytes + kCachedNormal, g.cached_normal);
}

}  // namespace pyinit
