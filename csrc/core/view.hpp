// A tensor as kernels see it: where its elements lie, and which logical element each one is.
#pragma once

#include <cstdint>

#include "core/dtype.hpp"
#include "core/inline_vector.hpp"

namespace pyinit {

struct Dim {
  int64_t size;
  int64_t stride;        // in memory, in elements
  int64_t index_stride;  // in the row-major index of the whole logical tensor
};

struct View {
  char* data = nullptr;
  DType dtype = DType::f32;
  InlineVector<Dim> dims;  // logical order; none is a scalar
  uint64_t first_index = 0;

  int64_t count() const;
};

// The view of a tensor that stands for itself, or for the block at `start` of a tensor of shape `whole`
// (both empty, or both as long as `shape`). Throws where the block does not fit.
View make_view(char* data, DType dtype, const Integers& shape, const Integers& strides, const Integers& whole,
               const Integers& start);

// The same elements with as few dims as possible: no dims of size one, and neighbours joined where
// both memory and index run on.
View coalesce(const View& v);

// How many elements dims have.
int64_t count_of(const InlineVector<Dim>& dims);

// The dims in their order without those of size one, joined where one runs into the next in memory; at least one. Index
// strides are 0.
InlineVector<Dim> joined(const InlineVector<Dim>& dims);

// The dims in order of memory, outermost first, joined where one runs into the next. Index strides are 0.
InlineVector<Dim> memory_order(const View& v);

// Calls run(offset, count) for each run of the elements [begin, end) in that order, along the innermost dim.
template <class Run> void for_each_run(const InlineVector<Dim>& in_order, int64_t begin, int64_t end, Run&& run) {
  const Dim inner = in_order[in_order.size() - 1];
  for (int64_t i = begin; i < end;) {
    int64_t row = i / inner.size, offset = i % inner.size * inner.stride;
    const int64_t left = inner.size - i % inner.size, n = left < end - i ? left : end - i;
    for (size_t d = in_order.size() - 1; d-- > 0;) {
      offset += row % in_order[d].size * in_order[d].stride;
      row /= in_order[d].size;
    }
    run(offset, n);
    i += n;
  }
}

// Whether the dims, joined where one runs into the next, are a single one of elements side by side.
bool is_one_run(const InlineVector<Dim>& dims);

// Whether the elements, in some order, lie side by side.
bool is_dense(const View& v);

// Whether the elements certainly lie at different places. It may be false for some that do.
bool non_overlapping(const Integers& shape, const Integers& strides);

// Asks the system for huge pages where large dense memory has none yet: all of it is about to be written,
// and a page fault for every 4 KiB would take longer than the numbers do.
void prefer_huge_pages(const View& v);

}  // namespace pyinit
