# pyinit_openmp, the OpenMP runtime that torch brings: with a second one, the process would have two pools of threads.
add_library(pyinit_openmp INTERFACE)

if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # torch brings GCC's libgomp. What Clang makes of `#pragma omp` calls LLVM's runtime, so there is none here:
  # core/openmp.hpp calls libgomp itself.
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libgomp.so
    OUTPUT_VARIABLE gomp OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT IS_ABSOLUTE "${gomp}")
    message(FATAL_ERROR "pyinit: ${CMAKE_CXX_COMPILER_ID} has no libgomp to link, the OpenMP runtime that torch uses on "
      "Linux. Install GCC's C++ compiler beside it, or build with that: CXX=g++")
  endif()
  message(STATUS "pyinit: OpenMP by ${gomp}")
  target_compile_definitions(pyinit_openmp INTERFACE PYINIT_CALLS_GOMP)
  target_link_libraries(pyinit_openmp INTERFACE ${gomp})
  return()
endif()

if(APPLE AND PYINIT_BUILD_EXTENSION)
  # torch's wheel has libomp and its header. Not yet tried on a Mac.
  execute_process(COMMAND ${Python_EXECUTABLE} -c
    "from importlib.util import find_spec; print(find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE OpenMP_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "pyinit: on macOS the build needs torch, whose OpenMP runtime it links: pip install torch")
  endif()
endif()
find_package(OpenMP REQUIRED COMPONENTS CXX)
target_link_libraries(pyinit_openmp INTERFACE OpenMP::OpenMP_CXX)
