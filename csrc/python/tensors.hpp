// Questions about tensors that C++ asks without Python's help.
#pragma once

#include <Python.h>

#include <cstdint>
#include <optional>

#include "core/view.hpp"
#include "python/target.hpp"

// Whether a tensor has more elements; also true where only Python can tell.
bool may_have_more_elements(PyObject* tensor, int64_t than);

// The view of what a fill may write, dense memory as one dimension; None where it cannot write.
PyObject* target(PyObject* tensor);

// What a fill may write, as one dimension; none where it is not dense memory of the CPU.
std::optional<pyinit::View> dense_target(PyObject* tensor);

// Where a plain tensor's elements lie, with the tensor's own shape; nothing where a kernel cannot read them.
std::optional<Target> readable(PyObject* tensor);

// The same of one that is known to be plain.
std::optional<Target> memory_of(PyObject* tensor);
