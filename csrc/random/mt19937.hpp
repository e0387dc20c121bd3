// MT19937 (Matsumoto and Nishimura 1998), the generator of torch's CPU fills: a state of 624 words that is
// refreshed as a whole. In one long array each word depends on three before it, x[i + 624] on x[i],
// x[i + 1] and x[i + 397], so a vector of words is made at a time. The words that a program sees are
// "tempered"; here they stay as they are in the array until a kernel uses them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>

#include "core/parallel.hpp"
#include "random/torch_kernels.hpp"

namespace pyinit::mt19937 {

constexpr int64_t kBlock = 624;
constexpr int64_t kPiece = 16 * kBlock;  // words handed out at a time

struct State {
  uint32_t words[kBlock];
  int64_t used;  // of the words, in [0, 624]
};

// The words after a state in a buffer: extends `words`, a block, until it holds `needed` words.
inline void extend(uint32_t* words, int64_t needed) {
  if (needed > kBlock) torch_kernels().refresh(words, (needed - 1) / kBlock * kBlock);
}

// Hands out the next `count` words in pieces of `piece` (the last may be shorter): body(first, n, words)
// gets words first .. first + n, untempered, where first counts from the start. Threads take turns at
// the generator; each makes a piece in a buffer of its own and works on it while others make theirs.
// The state ends up where serial use would have left it.
template <class Body> void consume(State& state, int64_t count, int64_t piece, int threads, Body&& body) {
  if (count <= kBlock - state.used) {
    for (int64_t first = 0; first < count; first += piece) {
      body(first, std::min(piece, count - first), state.words + state.used + first);
    }
    state.used += count;
    return;
  }
  piece = std::min(piece, count);
  const int64_t pieces = (count - 1) / piece + 1;
  const int team = static_cast<int>(std::min<int64_t>(threads, pieces));
  // A piece begins somewhere in the state's block and ends somewhere in the last block it needs.
  const int64_t room = (piece / kBlock + 3) * kBlock;
  const auto buffers = std::make_unique_for_overwrite<uint32_t[]>(static_cast<size_t>(team * room));
  std::mutex turn;
  int64_t next = 0;
  parallel_ranges(team, team, 1, [&](int64_t begin, int64_t) {
    uint32_t* const words = buffers.get() + begin * room;
    Lookout lookout;
    for (;;) {
      int64_t first, n, used;
      {
        const std::lock_guard lock(turn);
        if (next == count) return;
        first = next;
        n = std::min(piece, count - first);
        next += n;
        used = state.used;
        std::copy_n(state.words, kBlock, words);
        extend(words, used + n);
        const int64_t last_block = (used + n - 1) / kBlock;
        std::copy_n(words + last_block * kBlock, kBlock, state.words);
        state.used = used + n - last_block * kBlock;
      }
      body(first, n, words + used);
      lookout.after(n);
    }
  });
}

inline void skip(State& state, int64_t count) {
  consume(state, count, kPiece, 1, [](int64_t, int64_t, const uint32_t*) {});
}

}  // namespace pyinit::mt19937
