// Memory for intermediate results.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "core/view.hpp"

namespace pyinit {

// Memory that nothing has been written to yet.
template <class T> class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<T*>(::operator new(static_cast<size_t>(count) * sizeof(T), kAlignment))) {
    View view;
    view.data = reinterpret_cast<char*>(data_.get());
    view.dtype = sizeof(T) == 8 ? DType::f64 : DType::f32;
    view.dims.push_back({count, 1, 1});
    prefer_huge_pages(view);
  }
  T* data() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* p) const { ::operator delete(static_cast<void*>(p), kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace pyinit
