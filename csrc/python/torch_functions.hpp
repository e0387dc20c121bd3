// What C++ asks torch by its Python functions, without a frame of Python in between.
#pragma once

#include <pybind11/pybind11.h>

#include "python/fastcall.hpp"

namespace torch_functions {

// Whether anything but automatic differentiation has to see what is done with the objects.
bool is_watched(fastcall::Arguments objects);

// Whether a tensor's type is torch's own, and its elements have the signs that are in memory.
bool is_plain(PyObject* tensor);

// Whether gradients are recorded, and one of the tensors asks for them.
bool is_differentiated(fastcall::Arguments tensors);

int threads();

// An uninitialized tensor like the one in the tuple.
pybind11::object empty_like(PyObject* arguments);

}  // namespace torch_functions
