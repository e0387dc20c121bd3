#include "transfer/copy.hpp"

#include <atomic>

#include "core/parallel.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrainBytes = 1 << 18;  // worth a thread
constexpr int64_t kPastCaches = 4 << 20;  // bytes from which on the copy does not stay in the caches
constexpr int64_t kAlign = 1 << 10;       // borders between threads, in elements

}  // namespace

bool copy_checked(const void* from, void* to, DType dtype, int64_t count, int threads) {
  const int64_t size = size_of(dtype), bytes = count * size;
  const auto copy = copy_kernels().copy[static_cast<int>(dtype)];
  std::atomic<bool> is_finite{true};
  const int team = usable_threads(threads, bytes, kGrainBytes);
  parallel_pieces(team, count, kAlign, 1, [&](int64_t begin, int64_t end) {
    const char* source = static_cast<const char*>(from) + begin * size;
    if (!copy(source, static_cast<char*>(to) + begin * size, end - begin, bytes >= kPastCaches)) is_finite = false;
  });
  return is_finite;
}

}  // namespace pyinit
