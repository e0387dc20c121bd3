// What the binding files share.
#pragma once

#include <pybind11/pybind11.h>

namespace py = pybind11;

void register_activation(py::module_& m);
void register_batch(py::module_& m);
void register_columns(py::module_& m);
void register_conv(py::module_& m);
void register_conv_calls(py::module_& m);
void register_linalg(py::module_& m);
void register_machine(py::module_& m);
void register_method(py::module_& m);
void register_orthogonal(py::module_& m);
void register_quick(py::module_& m);
void register_random(py::module_& m);
void register_references(py::module_& m);
void register_simd(py::module_& m);
void register_tensor(py::module_& m);
void register_torch(py::module_& m);
void register_torch_func(py::module_& m);
void register_torch_functions(py::module_& m);
void register_transfer(py::module_& m);
