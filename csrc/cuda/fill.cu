#include "cuda/fill.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/integers.hpp"
#include "core/rounding.hpp"
#include "cuda/philox.hpp"
#include "cuda/runtime.hpp"
#include "cuda/store.hpp"
#include "cuda/table.hpp"
#include "random/values.hpp"

namespace pyinit::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kFewThreads = 64;  // below as many elements, for more blocks
constexpr int64_t kManyElements = int64_t{1} << 21;
constexpr int kBlocks = 4;  // of Philox, that a thread makes

// A view with its elements' runs: dims from the outermost on, the last with the smallest index stride.
struct Job {
  char* data;
  uint64_t first_index;
  int64_t count;
  int64_t first_chunk;  // of the launch; a chunk is what a block of threads makes
  Stream stream;
  bool is_dense;
  bool is_narrow;  // below 2^31 elements
  int dims;
  Dim dim[kMostDims];
};

template <class Kernel> struct Table {
  struct Entry {
    Job job;
    Kernel kernel;
  };
  static constexpr int kMost = static_cast<int>(kTableBytes / sizeof(Entry));
  int count = 0;
  Entry entries[kMost];
};

// Elements of a Philox block.
template <class T> constexpr int kElements = Lanes<typename ScalarOf<T>::Type>::kVectors;
// Of a store: one or two blocks.
template <class T> constexpr int kStored = 16 / sizeof(T);
// Stores of a thread, and the elements.
template <class T> constexpr int kStores = kBlocks * kElements<T> / kStored<T>;
template <class T> constexpr int kEach = kBlocks * kElements<T>;

PYINIT_INLINE void words_of(const Word4& b, U32 (&w)[4]) {
  for (int j = 0; j < 4; ++j) w[j] = u32(b.w[j]);
}
PYINIT_INLINE void words_of(const Word4& b, U64 (&w)[2]) {
  for (int j = 0; j < 2; ++j) w[j] = u64(uint64_t{b.w[2 * j + 1]} << 32 | b.w[2 * j]);
}

// The values of a Philox block.
template <class T, class Kernel> PYINIT_INLINE void values_of(const Kernel& kernel, const Stream& stream,
                                                              uint64_t block, T (&out)[kElements<T>]) {
  using L = Lanes<typename ScalarOf<T>::Type>;
  typename L::U w[L::kVectors];
  typename L::F x[L::kVectors];
  words_of(philox_block(stream, block), w);
  kernel(w, x);
  for (int j = 0; j < L::kVectors; ++j) out[j] = rounded(T{}, x[j]);
}

template <class T, class Scalar>
PYINIT_INLINE void values_of(const RedrawnNormalKernel<Scalar>& kernel, const Stream& stream, uint64_t block,
                             T (&out)[kElements<T>]) {
  using L = Lanes<Scalar>;
  typename L::U w[L::kVectors];
  typename L::F z[L::kVectors];
  words_of(philox_block(stream, block), w);
  NormalKernel<Scalar>::standard(w, z);
  unsigned outside = 0;
  for (int j = 0; j < L::kVectors; ++j) {
    out[j] = rounded(T{}, kernel(z[j]));
    outside |= unsigned{any(less(z[j], kernel.least)) || any(less(kernel.most, z[j]))} << j;
  }
  if (outside == 0) return;
  words_of(philox_block(stream, block + kFurther), w);
  // One after the other: the threads of a warp make as many turns as one of them needs.
  for (; outside != 0; outside &= outside - 1) {
    const unsigned lowest = outside & (~outside + 1);
    typename L::U one[1] = {w[0]};
    typename L::F x[1];
    for (int j = 1; j < L::kVectors; ++j) one[0] = lowest == 1U << j ? w[j] : one[0];
    kernel.outside(one, x);
    const T value = rounded(T{}, x[0]);
    for (int j = 0; j < L::kVectors; ++j) out[j] = lowest == 1U << j ? value : out[j];
  }
}

// The offset of element i and its index. Index is the type to divide in: the narrow one takes a fraction of the time.
template <class Index> PYINIT_INLINE int64_t offset_of(const Job& job, Index i, uint64_t* index) {
  int64_t offset = 0;
  *index = job.first_index;
  for (int d = job.dims; d-- > 0;) {
    const Index size = static_cast<Index>(job.dim[d].size);
    const int64_t at = static_cast<int64_t>(d == 0 ? i : i % size);
    i /= size;
    offset += at * job.dim[d].stride;
    *index += static_cast<uint64_t>(at * job.dim[d].index_stride);
  }
  return offset;
}

// Elements side by side, whose indices are so, too: stores that begin with a Philox block, each made of whole blocks.
template <class T, class Kernel>
PYINIT_INLINE void fill_dense(const Job& job, const Kernel& kernel, int64_t chunk) {
  constexpr int kPart = kElements<T>, kOut = kStored<T>, kParts = kOut / kPart;
  const int64_t skipped = static_cast<int64_t>(job.first_index % kPart), threads = blockDim.x;
  T* const from = reinterpret_cast<T*>(job.data) - skipped;
  const int64_t first = chunk * kStores<T> * threads;  // store of this block of threads
  const int64_t store = first + threadIdx.x;
  uint64_t block = job.first_index / kPart + static_cast<uint64_t>(store * kParts);
  T* to = from + store * kOut;
  const bool is_whole = first * kOut >= skipped && (first + kStores<T> * threads) * kOut - skipped <= job.count;
  const auto make = [&](T(&x)[kParts][kPart]) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      values_of(kernel, job.stream, block + static_cast<uint64_t>(part), x[part]);
    }
    block += static_cast<uint64_t>(threads * kParts);
  };
  if (is_aligned(from) && is_whole) {
#pragma unroll
    for (int k = 0; k < kStores<T>; ++k) {
      T x[kParts][kPart];
      make(x);
      store_together(to, x);
      to += threads * kOut;
    }
    return;
  }
  for (int k = 0; k < kStores<T>; ++k) {
    const int64_t at = (first + k * threads + threadIdx.x) * kOut - skipped;  // of its first element
    if (at >= job.count) return;
    T x[kParts][kPart];
    make(x);
#pragma unroll
    for (int j = 0; j < kOut; ++j) {
      if (at + j >= 0 && at + j < job.count) to[j] = x[j / kPart][j % kPart];
    }
    to += threads * kOut;
  }
}

template <class T, class Kernel>
PYINIT_INLINE void fill_strided(const Job& job, const Kernel& kernel, int64_t chunk) {
  constexpr int kPart = kElements<T>;
  T* const data = reinterpret_cast<T*>(job.data);
  for (int k = 0; k < kEach<T>; ++k) {
    const int64_t i = (chunk * kEach<T> + k) * static_cast<int64_t>(blockDim.x) + threadIdx.x;
    if (i >= job.count) return;
    uint64_t index;
    const int64_t offset = job.is_narrow ? offset_of(job, static_cast<uint32_t>(i), &index)
                                         : offset_of(job, static_cast<uint64_t>(i), &index);
    T x[kPart];
    values_of(kernel, job.stream, index / kPart, x);
    T one = x[0];
    for (int j = 1; j < kPart; ++j) one = index % kPart == static_cast<uint64_t>(j) ? x[j] : one;
    data[offset] = one;
  }
}

template <class T, class Kernel> __global__ void fill(const Table<Kernel> table) {
  const int e = entry_at(blockIdx.x, table.count, [&](int i) { return table.entries[i].job.first_chunk; });
  const auto& [job, kernel] = table.entries[e];
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) - job.first_chunk;
  if (job.is_dense) {
    fill_dense<T>(job, kernel, chunk);
  } else {
    fill_strided<T>(job, kernel, chunk);
  }
}

template <class Scalar> struct ConstantKernel {
  using F = typename Lanes<Scalar>::F;
  F value;
  ConstantKernel() = default;
  PYINIT_METHOD explicit ConstantKernel(double v) : value(constant<F>(v)) {}
  template <class U, int n> PYINIT_METHOD void operator()(const U (&)[n], F (&x)[n]) const {
    for (int j = 0; j < n; ++j) x[j] = value;
  }
};

// Fills of one kind, launched as soon as a table is full.
template <class Kernel, class T> class Launches {
 public:
  explicit Launches(const Queue& queue) : queue_(queue) {}

  template <class Params> void add(const View& view, const Stream& stream, const Params& params) {
    if (table_.count == Table<Kernel>::kMost) flush();
    auto& [job, kernel] = table_.entries[table_.count++];
    job.data = view.data;
    job.first_index = view.first_index;
    job.count = view.count();
    job.stream = stream;
    job.is_dense = view.dims.size() == 1 && view.dims[0].stride == 1 && view.dims[0].index_stride == 1;
    job.is_narrow = job.count <= std::numeric_limits<int32_t>::max();
    job.dims = static_cast<int>(view.dims.size());
    std::copy(view.dims.begin(), view.dims.end(), job.dim);
    kernel = Kernel(params);
    elements_ += job.count;
  }
  void flush() {
    if (table_.count == 0) return;
    const int threads = threads_of_block(elements_ < kManyElements ? kFewThreads : kThreads);
    int64_t chunks = 0;
    for (int e = 0; e < table_.count; ++e) {
      Job& job = table_.entries[e].job;
      job.first_chunk = chunks;
      // A Philox block more than the elements fill, for those that begin within one.
      chunks += divide_up(job.count + kElements<T> - 1, int64_t{threads} * kEach<T>);
    }
    launch(fill<T, Kernel>, chunks, threads, queue_, table_);
    table_.count = 0;
    elements_ = 0;
  }

 private:
  const Queue& queue_;
  Table<Kernel> table_;
  int64_t elements_ = 0;
};

template <template <class> class Kernel> class OfEveryType {
 public:
  explicit OfEveryType(const Queue& queue) : f16_(queue), bf16_(queue), f32_(queue), f64_(queue) {}

  template <class Params> void add(const View& view, const Stream& stream, const Params& params) {
    switch (view.dtype) {
      case DType::f16: return f16_.add(view, stream, params);
      case DType::bf16: return bf16_.add(view, stream, params);
      case DType::f32: return f32_.add(view, stream, params);
      case DType::f64: return f64_.add(view, stream, params);
    }
  }
  void flush() {
    f16_.flush();
    bf16_.flush();
    f32_.flush();
    f64_.flush();
  }

 private:
  Launches<Kernel<float>, Half> f16_;
  Launches<Kernel<float>, BFloat16> bf16_;
  Launches<Kernel<float>, float> f32_;
  Launches<Kernel<double>, double> f64_;
};

// All kinds of fills.
class Fills {
 public:
  explicit Fills(const Queue& queue)
      : constants_(queue),
        uniforms_(queue),
        normals_(queue),
        redrawn_normals_(queue),
        trunc_normals_(queue),
        tails_(queue),
        bernoullis_(queue) {}

  void add(const View& view, const Stream& stream, double value) { constants_.add(view, stream, value); }
  void add(const View& view, const Stream& stream, const Uniform& p) { uniforms_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const Normal& p) { normals_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const RedrawnNormal& p) { redrawn_normals_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const TruncNormal& p) { trunc_normals_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const NormalTail& p) { tails_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const Bernoulli& p) { bernoullis_.add(view, stream, p); }
  void flush() {
    constants_.flush();
    uniforms_.flush();
    normals_.flush();
    redrawn_normals_.flush();
    trunc_normals_.flush();
    tails_.flush();
    bernoullis_.flush();
  }

 private:
  OfEveryType<ConstantKernel> constants_;
  OfEveryType<UniformKernel> uniforms_;
  OfEveryType<NormalKernel> normals_;
  OfEveryType<RedrawnNormalKernel> redrawn_normals_;
  OfEveryType<TruncNormalKernel> trunc_normals_;
  OfEveryType<NormalTailKernel> tails_;
  OfEveryType<BernoulliKernel> bernoullis_;
};

// The element that a constant becomes on the CPU. Rounded to float and then to 16 bits it could be another, and a NaN
// of 16 bits has no sign.
double element(DType dtype, double value) {
  if (size_of(dtype) > 2) return value;
  return std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : round_to(dtype, value);
}

}  // namespace

bool can_fill(const View& view) { return coalesce(view).dims.size() <= kMostDims; }

void fill_many(const std::vector<DeviceFill>& fills, const Queue& queue) {
  for (const DeviceFill& fill : fills) {
    if (!can_fill(fill.view)) throw std::invalid_argument("shape: has too many dimensions that do not join");
  }
  Fills all(queue);
  for (const auto& [view, stream, distribution, numbers] : fills) {
    if (view.count() == 0) continue;
    const View joined = coalesce(view);
    const double probability = numbers[0];
    const bool is_certain = distribution == Distribution::bernoulli && (probability <= 0 || probability >= 1);
    if (distribution == Distribution::constant || is_certain) {
      all.add(joined, stream, element(view.dtype, numbers[0]));
    } else {
      with_parameters(distribution, view.dtype, numbers, [&](const auto& params) { all.add(joined, stream, params); });
    }
  }
  all.flush();
}

}  // namespace pyinit::cuda
