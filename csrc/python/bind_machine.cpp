#include <pybind11/stl.h>

#include "core/expected_loss.hpp"
#include "core/isa.hpp"
#include "core/parallel.hpp"
#include "python/bind.hpp"

void register_machine(py::module_& m) {
  m.def("isa", [] { return pyinit::name(pyinit::active_isa()); });
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (const pyinit::Isa isa : pyinit::available_isas()) names.emplace_back(pyinit::name(isa));
    return names;
  });
  m.def("set_isa", [](const std::string& name) { pyinit::set_active_isa(name); }, py::arg("name"));
  m.def("compiler", [] {
#if defined(__clang__)
    return "clang " __clang_version__;
#else
    return "gcc " __VERSION__;
#endif
  });
  m.def("openmp_runtime", &pyinit::openmp_runtime);
  m.def("set_threads_at_any_loss", &pyinit::set_threads_at_any_loss, py::arg("are_used"));
  py::class_<pyinit::ExpectedLoss>(m, "ExpectedLoss")
      .def(py::init<>())
      .def("at", &pyinit::ExpectedLoss::at, py::arg("now"))
      .def("add", &pyinit::ExpectedLoss::add, py::arg("loss"), py::arg("now"));
}
