// What fills write to, as Python passes it.
#pragma once

#include <optional>

#include "core/view.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "random/distributions.hpp"
#include "random/philox.hpp"

// The memory to write: (address, dtype code, shape, strides in elements).
struct Target {
  uint64_t address;
  int dtype;
  pyinit::Integers shape, strides;
};

template <> inline Target fastcall::from_python<Target>(PyObject* x) {
  return {from_python<uint64_t>(item(x, 4, 0)), from_python<int>(item(x, 4, 1)), from_python<Integers>(item(x, 4, 2)),
          from_python<Integers>(item(x, 4, 3))};
}

// (key, stream).
template <> inline pyinit::Stream fastcall::from_python<pyinit::Stream>(PyObject* x) {
  return {from_python<uint64_t>(item(x, 2, 0)), from_python<uint64_t>(item(x, 2, 1))};
}

template <> inline pyinit::Numbers fastcall::from_python<pyinit::Numbers>(PyObject* x) {
  pyinit::Numbers numbers;
  for (size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = from_python<double>(item(x, std::ssize(numbers), static_cast<Py_ssize_t>(i)));
  }
  return numbers;
}

// A distribution by its code.
template <> inline pyinit::Distribution fastcall::from_python<pyinit::Distribution>(PyObject* x) {
  const int code = from_python<int>(x);
  if (code < 0 || code >= pyinit::kDistributions) throw std::invalid_argument("distribution: unknown code");
  return static_cast<pyinit::Distribution>(code);
}

using Block = std::optional<pyinit::Integers>;

// The view that the arguments describe.
inline pyinit::View to_view(const Target& target, const Block& whole, const Block& start) {
  using namespace pyinit;
  if (target.dtype < 0 || target.dtype >= kDTypes) throw std::invalid_argument("dtype: unknown code");
  const View view = make_view(reinterpret_cast<char*>(target.address), static_cast<DType>(target.dtype), target.shape,
                              target.strides, whole.value_or(Integers{}), start.value_or(Integers{}));
  prefer_huge_pages(view);
  return view;
}

// Runs `fill` on the view that the arguments describe, without the GIL if it has more than `many` elements.
template <class Fill>
auto on_view(const Target& target, const Block& whole, const Block& start, int64_t many, Fill&& fill) {
  const pyinit::View view = to_view(target, whole, start);
  const auto release = release_if(view.count() > many);
  return fill(view);
}
