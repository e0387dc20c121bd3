// What stands before functions that are compiled for each instruction set, and for devices.
#pragma once

// Before a function, and before a method or a template.
#if defined(__CUDACC__)
#define PYINIT_INLINE static __host__ __device__ __forceinline__
#define PYINIT_METHOD __host__ __device__ __forceinline__
#else
#define PYINIT_INLINE [[gnu::always_inline]] static inline
#define PYINIT_METHOD [[gnu::always_inline]] inline
#endif
