# pyinit._cuda, the CUDA kernels in a module of their own: linked to no torch, and with a runtime of its own inside,
# which shares the driver's context with torch's.
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  enable_language(CUDA)
endif()
if(NOT CMAKE_CUDA_COMPILER OR CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12)
  if(PYINIT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PYINIT_CUDA=ON needs nvcc 12 or later")
  endif()
  message(STATUS "pyinit: no CUDA kernels: there is no nvcc 12 or later")
  return()
endif()

include(${CMAKE_CURRENT_LIST_DIR}/cuda_architectures.cmake)
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE known)
string(REGEX MATCHALL "sm_[0-9]+" known "${known}")
list(TRANSFORM known REPLACE "sm_" "")
pyinit_cuda_architectures("${known}" architectures why)
pyinit_describe_cuda_architectures("${architectures}" names)
message(STATUS "pyinit: CUDA ${CMAKE_CUDA_COMPILER_VERSION} kernels for ${names}: ${why}")

pybind11_add_module(_cuda
  csrc/cuda/bind_cuda.cpp
  csrc/cuda/columns.cu
  csrc/cuda/fill.cu
  csrc/cuda/moments.cu
  csrc/cuda/sparse.cu
  csrc/cuda/unit_variances.cu)
set_target_properties(_cuda PROPERTIES
  CUDA_ARCHITECTURES "${architectures}"
  CUDA_RUNTIME_LIBRARY Static
  CUDA_STANDARD 20
  CUDA_STANDARD_REQUIRED ON)
target_compile_definitions(_cuda PRIVATE
  PYINIT_NS=cuda PYINIT_NS_cuda PYINIT_CUDA_MODULE=_cuda
  "PYINIT_CUDA_BUILD=\"CUDA ${CMAKE_CUDA_COMPILER_VERSION}, ${names}\"")
target_include_directories(_cuda PRIVATE csrc ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_options(_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off -Wall -Wextra -Wconversion>
  $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr -Xptxas=-v -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas>)
if(PYINIT_WERROR)
  target_compile_options(_cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror> $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings -Xcompiler=-Werror>)
endif()
target_link_libraries(_cuda PRIVATE pyinit_kernels)
install(TARGETS _cuda LIBRARY DESTINATION pyinit)
