#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <vector>

#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/target.hpp"
#include "python/tensors.hpp"
#include "random/fill.hpp"

using namespace pyinit;

// Fills of plain tensors in a single call. Python asks the same questions one by one, and these would take
// as long as a small fill. Where an answer is not the usual one, nothing is done, and Python asks again.
namespace {

constexpr int64_t kMany = 1024;         // elements from which on other threads may run meanwhile
constexpr double kFitsAny = 65504 / 2;  // parameters up to this are in the range of every dtype

struct Questions {
  std::array<PyTypeObject*, 2> plain{};
  std::vector<PyObject*> of_mode;    // without arguments; usually 0, False or None
  std::vector<PyObject*> of_tensor;  // of the tensor; usually False
  PyObject* note_write = nullptr;
};
Questions questions;

bool is_true(PyObject* answer) {
  if (answer == nullptr) throw py::error_already_set();
  const int truth = PyObject_IsTrue(answer);
  Py_DECREF(answer);
  if (truth < 0) throw py::error_already_set();
  return truth != 0;
}

bool is_usual_mode() {
  return std::ranges::none_of(questions.of_mode, [](PyObject* ask) { return is_true(PyObject_CallNoArgs(ask)); });
}

// What is asked of a tensor is itself a call that a mode would see.
bool is_usual(PyObject* tensor) {
  return (Py_TYPE(tensor) == questions.plain[0] || Py_TYPE(tensor) == questions.plain[1]) &&
         std::ranges::none_of(questions.of_tensor,
                              [&](PyObject* ask) { return is_true(PyObject_CallOneArg(ask, tensor)); });
}

// ---- Keys ----

// A word in memory, what has torch draw into it (a method of a tensor there), and a dictionary of one item
// for a generator.
struct Word {
  PyObject* draw;
  const uint64_t* bits;
  PyObject* named;
};

constexpr size_t kIdle = 64;  // words that are kept: one for each thread that draws at the same time

struct Keys {
  PyTypeObject* generator = nullptr;
  PyTypeObject* key = nullptr;
  PyObject* make_word = nullptr;
  PyObject* arguments = nullptr;  // of draw
  PyObject* name = nullptr;       // of the argument for a generator
  std::vector<Word> idle;
  std::atomic_flag is_held;
};
Keys keys;

// A word that no other thread draws into: torch drops the GIL meanwhile. Nobody waits for the list, which a
// thread that a fork has left behind may hold for ever.
Word take_word() {
  if (!keys.is_held.test_and_set()) {
    std::optional<Word> found;
    if (!keys.idle.empty()) {
      found = keys.idle.back();
      keys.idle.pop_back();
    }
    keys.is_held.clear();
    if (found) return *found;
  }
  const auto made = py::reinterpret_steal<py::tuple>(PyObject_CallNoArgs(keys.make_word));
  if (!made) throw py::error_already_set();
  return {py::object(made[0]).release().ptr(), reinterpret_cast<const uint64_t*>(made[1].cast<uintptr_t>()),
          py::dict().release().ptr()};
}

void give_back(const Word& word) {
  if (!keys.is_held.test_and_set()) {
    const bool has_room = keys.idle.size() < keys.idle.capacity();
    if (has_room) keys.idle.push_back(word);
    keys.is_held.clear();
    if (has_room) return;
  }
  Py_DECREF(word.draw);
  Py_DECREF(word.named);
}

// The next 64 bits of a generator of torch's on the CPU, or of the default one if it is None.
uint64_t draw(PyObject* generator) {
  const Word word = take_word();
  const bool is_named = generator != Py_None;
  PyObject* drawn = nullptr;
  if (!is_named || PyDict_SetItem(word.named, keys.name, generator) == 0) {
    drawn = PyObject_Call(word.draw, keys.arguments, is_named ? word.named : nullptr);
  }
  const uint64_t bits = *word.bits;
  if (is_named) PyDict_Clear(word.named);
  give_back(word);
  if (drawn == nullptr) throw py::error_already_set();
  Py_DECREF(drawn);
  return bits;
}

std::optional<Stream> quick_key(PyObject* source) {
  if (Py_TYPE(source) == keys.key) return fastcall::from_python<Stream>(source);
  if (source != Py_None && Py_TYPE(source) != keys.generator) return std::nullopt;
  try {
    return Stream{draw(source), 0};
  } catch (py::error_already_set& error) {
    if (source == Py_None || !error.matches(PyExc_RuntimeError)) throw;
    return std::nullopt;  // a generator of another device
  }
}

PyObject* draw_key(PyObject* generator) { return PyLong_FromUnsignedLongLong(draw(generator)); }

void set_sources(const py::type& generator, const py::type& key, const py::object& make_word,
                 const py::tuple& arguments) {
  keys.generator = reinterpret_cast<PyTypeObject*>(generator.inc_ref().ptr());
  keys.key = reinterpret_cast<PyTypeObject*>(key.inc_ref().ptr());
  keys.make_word = make_word.inc_ref().ptr();
  keys.arguments = arguments.inc_ref().ptr();
  keys.name = PyUnicode_InternFromString("generator");
  keys.idle.reserve(kIdle);
}

// ---- Fills ----

// A float or an integer of Python's, if it is in the range of every dtype.
std::optional<double> small(PyObject* x) {
  if (!PyFloat_CheckExact(x) && !PyLong_CheckExact(x)) return std::nullopt;
  const double value = PyFloat_AsDouble(x);
  if (value == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return std::nullopt;
  }
  return std::abs(value) <= kFitsAny ? std::optional(value) : std::nullopt;
}

// Fills with numbers of the key that `source` gives; false if it did nothing. `threads` is asked how many there
// are where more than one could help.
template <void (*fill)(const View&, const Stream&, double, double, int), bool (*takes)(double, double)>
bool quick(PyObject* tensor, PyObject* first, PyObject* second, PyObject* source, PyObject* threads) {
  const std::optional<double> a = small(first), b = small(second);
  if (!a || !b || !takes(*a, *b) || !is_usual_mode() || !is_usual(tensor)) return false;
  const std::optional<View> view = dense_target(tensor);
  if (!view) return false;
  const std::optional<Stream> stream = quick_key(source);
  if (!stream) return false;
  if (view->count() > kMany) {
    const auto most = py::reinterpret_steal<py::object>(PyObject_CallNoArgs(threads));
    if (!most) throw py::error_already_set();
    prefer_huge_pages(*view);
    const int count = fastcall::from_python<int>(most.ptr());
    const auto release = release_if(true);
    fill(*view, *stream, *a, *b, count);
  } else {
    fill(*view, *stream, *a, *b, 1);
  }
  const auto tensors = py::reinterpret_steal<py::tuple>(PyTuple_Pack(1, tensor));
  if (!tensors) throw py::error_already_set();
  is_true(PyObject_CallOneArg(questions.note_write, tensors.ptr()));
  return true;
}

bool are_bounds(double low, double high) { return low <= high; }
bool is_normal(double /*mean*/, double std) { return std >= 0; }

void set_questions(const py::type& tensor, const py::type& parameter, const py::tuple& of_mode,
                   const py::tuple& of_tensor, const py::object& note_write) {
  questions.plain = {reinterpret_cast<PyTypeObject*>(tensor.inc_ref().ptr()),
                     reinterpret_cast<PyTypeObject*>(parameter.inc_ref().ptr())};
  questions.of_mode.clear();
  questions.of_tensor.clear();
  for (const py::handle ask : of_mode) questions.of_mode.push_back(ask.inc_ref().ptr());
  for (const py::handle ask : of_tensor) questions.of_tensor.push_back(ask.inc_ref().ptr());
  questions.note_write = py::object(note_write).release().ptr();
}

// The views of what fills may write, of a list of tensors; None for those that Python has to look at.
PyObject* usual_targets(PyObject* tensors) {
  if (!PyList_Check(tensors)) throw py::type_error("expected a list of tensors");
  const Py_ssize_t count = PyList_GET_SIZE(tensors);
  const bool is_usual_now = is_usual_mode();
  py::list views(static_cast<size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* const tensor = PyList_GET_ITEM(tensors, i);
    PyObject* const view = is_usual_now && is_usual(tensor) ? target(tensor) : Py_NewRef(Py_None);
    if (view == nullptr) throw py::error_already_set();
    PyList_SET_ITEM(views.ptr(), i, view);
  }
  return views.release().ptr();
}

}  // namespace

void register_quick(py::module_& m) {
  m.def("set_questions", &set_questions);
  m.def("set_sources", &set_sources);
  fastcall::define<usual_targets>(m, "usual_targets");
  fastcall::define<draw_key>(m, "draw_key");
  fastcall::define<quick<fill_uniform, are_bounds>>(m, "quick_uniform");
  fastcall::define<quick<fill_normal, is_normal>>(m, "quick_normal");
}
