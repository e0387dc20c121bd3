# pyinit_parallel: the only source that has OpenMP in it, and the runtime to link, which is torch's. A second runtime
# would be a second pool of threads in the process.
add_library(pyinit_parallel OBJECT csrc/core/parallel.cpp)
target_link_libraries(pyinit_parallel PRIVATE pyinit_flags)

if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # torch brings GCC's libgomp, and what Clang makes of `#pragma omp` calls LLVM's runtime. So there is no pragma here:
  # core/openmp.hpp calls libgomp itself.
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libgomp.so
    OUTPUT_VARIABLE gomp OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT IS_ABSOLUTE "${gomp}")
    message(FATAL_ERROR "pyinit: ${CMAKE_CXX_COMPILER_ID} has no libgomp to link, the OpenMP runtime that torch uses on "
      "Linux. Install GCC's C++ compiler beside it, or build with that: CXX=g++")
  endif()
  message(STATUS "pyinit: OpenMP by ${gomp}")
  target_compile_definitions(pyinit_parallel PRIVATE PYINIT_CALLS_GOMP)
  target_link_libraries(pyinit_parallel INTERFACE ${gomp})
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
separate_arguments(flags NATIVE_COMMAND "${OpenMP_CXX_FLAGS}")
target_compile_options(pyinit_parallel PRIVATE ${flags})  # for this source alone: Clang then refuses some C++20
target_include_directories(pyinit_parallel PRIVATE ${OpenMP_CXX_INCLUDE_DIRS})
target_link_libraries(pyinit_parallel INTERFACE ${OpenMP_CXX_LIBRARIES})
