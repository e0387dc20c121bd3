// Preloaded by a test: from a chosen call on, or at that call alone, the extension's code is given no memory.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

std::atomic<uintptr_t> first{0}, last{0};  // of the code whose calls count; none at first
std::atomic<long> calls{0}, failing{0};
std::atomic<bool> for_good{false};

bool fails(void* caller) {
  const auto from = reinterpret_cast<uintptr_t>(caller);
  if (from < first || from >= last) return false;
  const long call = ++calls;
  return for_good ? call >= failing : call == failing;
}

void* memory(std::size_t size, std::size_t alignment) {
  if (alignment <= alignof(std::max_align_t)) return std::malloc(size == 0 ? 1 : size);
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void* memory_or_throw(std::size_t size, std::size_t alignment, void* caller) {
  void* const found = fails(caller) ? nullptr : memory(size, alignment);
  if (found == nullptr) throw std::bad_alloc();
  return found;
}

}  // namespace

#define CALLER __builtin_return_address(0)
void* operator new(std::size_t size) { return memory_or_throw(size, 1, CALLER); }
void* operator new[](std::size_t size) { return memory_or_throw(size, 1, CALLER); }
void* operator new(std::size_t size, std::align_val_t a) { return memory_or_throw(size, std::size_t(a), CALLER); }
void* operator new[](std::size_t size, std::align_val_t a) { return memory_or_throw(size, std::size_t(a), CALLER); }
// Who asks for memory in this way does without it.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return memory(size, 1); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return memory(size, 1); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }

extern "C" {
// Counts the calls that come from [from, to), and fails the n-th of them, and if need be all after it.
void fail_at(uintptr_t from, uintptr_t to, long n, bool and_later) {
  calls = 0, failing = n, for_good = and_later, first = from, last = to;
}
// Ends that, and gives the number of calls.
long calls_made() {
  last = 0;
  return calls;
}
}
