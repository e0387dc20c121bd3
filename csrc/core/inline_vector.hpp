// A vector of at most kMaxDims plain values, the usual number of them without allocation: sizes, strides, dims.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <stdexcept>

namespace pyinit {

constexpr size_t kMaxDims = 64;    // as torch
constexpr size_t kInlineDims = 6;  // few: a list of a model's tensors has thousands of vectors

template <class T> class InlineVector {
 public:
  InlineVector() = default;
  InlineVector(std::initializer_list<T> values) {
    for (const T& value : values) push_back(value);
  }
  InlineVector(const InlineVector& other) { *this = other; }
  InlineVector& operator=(const InlineVector& other) {
    if (this == &other) return *this;
    if (other.size_ > kInlineDims && !more_) more_ = std::make_unique<T[]>(kMaxDims);
    size_ = other.size_;
    std::copy(other.begin(), other.end(), begin());
    return *this;
  }

  void push_back(const T& value) {
    if (size_ == kMaxDims) throw std::invalid_argument("shape: has more than 64 dimensions");
    if (size_ == kInlineDims && !more_) {
      more_ = std::make_unique<T[]>(kMaxDims);
      std::copy(inline_, inline_ + size_, more_.get());
    }
    begin()[size_++] = value;
  }
  void pop_back() { --size_; }
  void erase(T* at) {
    for (T* next = at + 1; next != end(); ++next) next[-1] = *next;
    --size_;
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](size_t i) { return begin()[i]; }
  const T& operator[](size_t i) const { return begin()[i]; }
  T& back() { return begin()[size_ - 1]; }
  const T& back() const { return begin()[size_ - 1]; }
  T* begin() { return more_ ? more_.get() : inline_; }
  T* end() { return begin() + size_; }
  const T* begin() const { return more_ ? more_.get() : inline_; }
  const T* end() const { return begin() + size_; }
  auto rbegin() const { return std::reverse_iterator(end()); }
  auto rend() const { return std::reverse_iterator(begin()); }

 private:
  size_t size_ = 0;
  std::unique_ptr<T[]> more_;  // all of them, where they do not fit
  T inline_[kInlineDims];
};

using Integers = InlineVector<int64_t>;

}  // namespace pyinit
