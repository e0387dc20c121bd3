// Questions about tensors that C++ asks without Python's help.
#pragma once

#include <Python.h>

#include <cstdint>
#include <optional>

#include "python/target.hpp"

// Whether a tensor has more elements; also true where only Python can tell.
bool may_have_more_elements(PyObject* tensor, int64_t than);

// Where a plain tensor's elements lie, with the tensor's own shape; nothing where a kernel cannot read them.
std::optional<Target> readable(PyObject* tensor);

// The same of one that is known to be plain.
std::optional<Target> memory_of(PyObject* tensor);
