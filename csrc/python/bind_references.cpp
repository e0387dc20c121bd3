#include <pybind11/critical_section.h>

#include <algorithm>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "python/bind.hpp"

namespace {

constexpr size_t kAhead = 16;

// Objects by their addresses: nothing looked at is touched but for its type.
class Sought {
 public:
  explicit Sought(const py::iterable& ids) {
    for (const py::handle id : ids) addresses_.push_back(id.cast<uintptr_t>());
    std::sort(addresses_.begin(), addresses_.end());
  }

  bool has(const PyObject* object) const {
    const auto address = reinterpret_cast<uintptr_t>(object);
    return !addresses_.empty() && addresses_.front() <= address && address <= addresses_.back() &&
           std::binary_search(addresses_.begin(), addresses_.end(), address);
  }

 private:
  std::vector<uintptr_t> addresses_;
};

template <class Visit> void for_each_item(PyObject* dict, Visit&& visit) {
  PyObject *key = nullptr, *value = nullptr;
  for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value) != 0;) visit(key, value);
}

bool is_in(PyObject* container, const Sought& sought) {
  const py::scoped_critical_section guard{py::handle(container)};
  bool is_found = false;
  if (PyDict_CheckExact(container)) {
    for_each_item(container, [&](PyObject* key, PyObject* value) { is_found |= sought.has(key) || sought.has(value); });
  } else if (PyList_CheckExact(container)) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(container); ++i) is_found |= sought.has(PyList_GET_ITEM(container, i));
  } else {
    for (const py::handle member : py::reinterpret_borrow<py::set>(container)) is_found |= sought.has(member.ptr());
  }
  return is_found;
}

// No subclasses: what is lazy in them would be loaded.
bool is_container(PyObject* object) {
  return PyDict_CheckExact(object) || PyList_CheckExact(object) || Py_IS_TYPE(object, &PySet_Type);
}

py::list containers_of(const py::list& namespaces, const py::iterable& ids) {
  const Sought sought(ids);
  py::list found;
  // All are held before any is looked into: making a set's iterator may run the garbage collector.
  std::vector<py::object> containers;
  std::unordered_set<const PyObject*> seen;
  for (const py::handle space : namespaces) seen.insert(space.ptr());
  std::vector<PyObject*> values;
  for (const py::handle space : namespaces) {
    const py::scoped_critical_section guard{space};
    bool is_found = false;
    values.clear();
    for_each_item(space.ptr(), [&](PyObject* key, PyObject* value) {
      is_found |= sought.has(key) || sought.has(value);
      values.push_back(value);
    });
    if (is_found) found.append(space);
    for (size_t i = 0; i < values.size(); ++i) {
      // They lie anywhere in memory: to wait for their types would be most of the time.
      if (i + kAhead < values.size()) __builtin_prefetch(values[i + kAhead]);
      if (is_container(values[i]) && seen.insert(values[i]).second) {
        containers.push_back(py::reinterpret_borrow<py::object>(values[i]));
      }
    }
  }
  for (const py::object& container : containers) {
    if (is_in(container.ptr(), sought)) found.append(container);
  }
  return found;
}

}  // namespace

void register_references(py::module_& m) {
  m.def("containers_of", &containers_of, py::arg("namespaces"), py::arg("ids"));
}
