// CUDA's runtime; or, with PYINIT_CUDA_EMULATION, what of it the kernels here need, on the CPU: a test tool.
#pragma once

#include "cuda/queue.hpp"

#if defined(PYINIT_CUDA_EMULATION)

// NOLINTBEGIN(bugprone-reserved-identifier): CUDA's words
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
// NOLINTEND(bugprone-reserved-identifier)

namespace pyinit::emulation {

struct Dim3 {
  unsigned x = 1;
};
inline int chosen_threads = 0;
inline thread_local Dim3 block_index, thread_index, block_size, grid_size;

// A grid is its threads one after the other: no kernel here waits for another thread.
template <class Kernel, class... Arguments>
void launch(Kernel kernel, int64_t blocks, int threads, const Queue&, const Arguments&... arguments) {
  grid_size.x = static_cast<unsigned>(blocks);
  block_size.x = static_cast<unsigned>(threads);
  for (unsigned b = 0; b < grid_size.x; ++b) {
    for (unsigned t = 0; t < block_size.x; ++t) {
      block_index.x = b;
      thread_index.x = t;
      kernel(arguments...);
    }
  }
}

}  // namespace pyinit::emulation

#define blockIdx (::pyinit::emulation::block_index)
#define threadIdx (::pyinit::emulation::thread_index)
#define blockDim (::pyinit::emulation::block_size)
#define gridDim (::pyinit::emulation::grid_size)

namespace pyinit {
using emulation::launch;

// What a kernel makes must not depend on it: tests choose it.
inline int threads_of_block(int usual) { return emulation::chosen_threads > 0 ? emulation::chosen_threads : usual; }
}  // namespace pyinit

#else

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace pyinit {

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // which would be reported again
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

// The device for as long as it lives.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&before_));
    if (device != before_) check(cudaSetDevice(device));
    is_other_ = device != before_;
  }
  ~DeviceGuard() {
    if (is_other_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_ = 0;
  bool is_other_ = false;
};

constexpr int threads_of_block(int usual) { return usual; }

// Throws what CUDA says of the launch. It does not wait for the kernel.
template <class Kernel, class... Arguments>
void launch(Kernel kernel, int64_t blocks, int threads, const Queue& queue, const Arguments&... arguments) {
  const DeviceGuard guard(queue.device);
  kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), 0,
           reinterpret_cast<cudaStream_t>(queue.stream)>>>(arguments...);
  check(cudaGetLastError());
}

}  // namespace pyinit

#endif
