// The OpenMP runtime that the process shares with torch, by whichever compiler.
#pragma once

#include <type_traits>

#ifdef PYINIT_CALLS_GOMP  // by Clang on Linux: cmake/openmp.cmake says why
extern "C" {
int omp_in_parallel();
int omp_get_thread_num();
int omp_get_num_threads();
// What GCC makes of `#pragma omp parallel`: a part of libgomp's interface since GCC 4.9.
void GOMP_parallel(void (*body)(void*), void* context, unsigned threads, unsigned flags);
}
#else
#include <omp.h>
#endif

namespace pyinit {

// Calls body(), which does not throw, in each thread of a team of at most so many.
template <class Body> void in_team([[maybe_unused]] int threads, Body&& body) {
#ifdef PYINIT_CALLS_GOMP
  const auto call = [](void* context) { (*static_cast<std::remove_reference_t<Body>*>(context))(); };
  GOMP_parallel(call, &body, static_cast<unsigned>(threads), 0);
#else
#pragma omp parallel num_threads(threads)
  body();
#endif
}

}  // namespace pyinit
