#include "core/isa.hpp"
#include "python/bind.hpp"

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  pyinit::set_active_isa_from_environment();
  register_activation(m);
  register_batch(m);
  register_columns(m);
  register_conv(m);
  register_conv_calls(m);
  register_linalg(m);
  register_machine(m);
  register_method(m);
  register_orthogonal(m);
  register_quick(m);
  register_random(m);
  register_references(m);
  register_simd(m);
  register_tensor(m);
  register_torch(m);
  register_torch_func(m);
  register_torch_functions(m);
  register_transfer(m);
}
