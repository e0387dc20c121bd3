// Questions about tensors that C++ asks without Python's help.
#pragma once

#include <Python.h>

#include <cstdint>

// Whether a tensor has more elements; also true where only Python can tell.
bool may_have_more_elements(PyObject* tensor, int64_t than);
