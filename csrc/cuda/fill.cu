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
#include "random/values.hpp"

namespace pyinit::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStores = 4;            // of 16 bytes, that a thread makes
constexpr size_t kTableBytes = 3800;  // of the 4096 that a kernel's parameters may have

// A view with its elements' runs: dims from the outermost on, the last with the smallest index stride.
struct Job {
  char* data;
  uint64_t first_index;
  int64_t count;
  int64_t first_chunk;  // of the launch; a chunk is what a block of threads makes
  Stream stream;
  int dims;
  Dim dim[kMostDims];
};

template <class Params> struct Table {
  struct Entry {
    Job job;
    Params params;
  };
  static constexpr int kMost = static_cast<int>(kTableBytes / sizeof(Entry));
  int count;
  Entry entries[kMost];
};

// Elements of a Philox block.
template <class T> constexpr int kElements = Lanes<typename ScalarOf<T>::Type>::kVectors;
// Of a store: one or two blocks.
template <class T> constexpr int kStored = 16 / sizeof(T);

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

PYINIT_INLINE int64_t offset_of(const Job& job, int64_t i, uint64_t* index) {
  int64_t offset = 0;
  *index = job.first_index;
  for (int d = job.dims; d-- > 0;) {
    const int64_t at = i % job.dim[d].size;
    i /= job.dim[d].size;
    offset += at * job.dim[d].stride;
    *index += static_cast<uint64_t>(at * job.dim[d].index_stride);
  }
  return offset;
}

template <template <class> class Kernel, class Params, class T> __global__ void fill(const Table<Params> table) {
  using Scalar = typename ScalarOf<T>::Type;
  constexpr int kPart = kElements<T>, kOut = kStored<T>;
  int e = table.count - 1;
  while (table.entries[e].job.first_chunk > static_cast<int64_t>(blockIdx.x)) --e;
  const Job& job = table.entries[e].job;
  const Kernel<Scalar> kernel(table.entries[e].params);
  T* const data = reinterpret_cast<T*>(job.data);
  const int64_t chunk = static_cast<int64_t>(blockIdx.x) - job.first_chunk;
  const bool is_dense = job.dims == 1 && job.dim[0].stride == 1 && job.dim[0].index_stride == 1;
  if (is_dense) {
    const uint64_t first_block = job.first_index / kPart;
    const int64_t skipped = static_cast<int64_t>(job.first_index % kPart);
    for (int k = 0; k < kStores; ++k) {
      const int64_t store = (chunk * kStores + k) * static_cast<int64_t>(blockDim.x) + threadIdx.x;
      const int64_t at = store * kOut - skipped;  // of its first element
      if (at >= job.count) return;
      T x[kOut / kPart][kPart];
#pragma unroll
      for (int part = 0; part < kOut / kPart; ++part) {
        values_of(kernel, job.stream, first_block + static_cast<uint64_t>(store * (kOut / kPart) + part), x[part]);
      }
      if (at >= 0 && at + kOut <= job.count && is_aligned<kOut>(data + at)) {
        store_together(data + at, x);
      } else {
#pragma unroll
        for (int j = 0; j < kOut; ++j) {
          if (at + j >= 0 && at + j < job.count) data[at + j] = x[j / kPart][j % kPart];
        }
      }
    }
    return;
  }
  for (int k = 0; k < kStores * kOut; ++k) {
    const int64_t i = (chunk * kStores * kOut + k) * static_cast<int64_t>(blockDim.x) + threadIdx.x;
    if (i >= job.count) return;
    uint64_t index;
    const int64_t offset = offset_of(job, i, &index);
    T x[kPart];
    values_of(kernel, job.stream, index / kPart, x);
    T one = x[0];
    for (int j = 1; j < kPart; ++j) one = index % kPart == static_cast<uint64_t>(j) ? x[j] : one;
    data[offset] = one;
  }
}

template <class Scalar> struct ConstantKernel {
  using F = typename Lanes<Scalar>::F;
  F value;
  PYINIT_METHOD explicit ConstantKernel(double v) : value(constant<F>(v)) {}
  template <class U, int n> PYINIT_METHOD void operator()(const U (&)[n], F (&x)[n]) const {
    for (int j = 0; j < n; ++j) x[j] = value;
  }
};

// Fills of one kind, launched as soon as a table is full.
template <template <class> class Kernel, class Params, class T> class Launches {
 public:
  explicit Launches(const Queue& queue) : queue_(queue) {}

  void add(const View& view, const Stream& stream, const Params& params) {
    if (table_.count == Table<Params>::kMost) flush();
    auto& [job, its_params] = table_.entries[table_.count++];
    job = {view.data, view.first_index, view.count(), chunks_, stream, static_cast<int>(view.dims.size()), {}};
    for (size_t d = 0; d < view.dims.size(); ++d) job.dim[d] = view.dims[d];
    its_params = params;
    // A block more than the elements fill, for those that begin within one.
    chunks_ += divide_up(job.count + kElements<T> - 1, int64_t{threads_} * kStores * kStored<T>);
  }
  void flush() {
    if (table_.count == 0) return;
    launch(fill<Kernel, Params, T>, chunks_, threads_, queue_, table_);
    table_.count = 0;
    chunks_ = 0;
  }

 private:
  const Queue& queue_;
  const int threads_ = threads_of_block(kThreads);
  Table<Params> table_{};
  int64_t chunks_ = 0;
};

template <template <class> class Kernel, class Params> class OfEveryType {
 public:
  explicit OfEveryType(const Queue& queue) : f16_(queue), bf16_(queue), f32_(queue), f64_(queue) {}

  void add(const View& view, const Stream& stream, const Params& params) {
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
  Launches<Kernel, Params, Half> f16_;
  Launches<Kernel, Params, BFloat16> bf16_;
  Launches<Kernel, Params, float> f32_;
  Launches<Kernel, Params, double> f64_;
};

// All kinds of fills.
class Fills {
 public:
  explicit Fills(const Queue& queue)
      : constants_(queue),
        uniforms_(queue),
        normals_(queue),
        trunc_normals_(queue),
        tails_(queue),
        bernoullis_(queue) {}

  void add(const View& view, const Stream& stream, double value) { constants_.add(view, stream, value); }
  void add(const View& view, const Stream& stream, const Uniform& p) { uniforms_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const Normal& p) { normals_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const TruncNormal& p) { trunc_normals_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const NormalTail& p) { tails_.add(view, stream, p); }
  void add(const View& view, const Stream& stream, const Bernoulli& p) { bernoullis_.add(view, stream, p); }
  void flush() {
    constants_.flush();
    uniforms_.flush();
    normals_.flush();
    trunc_normals_.flush();
    tails_.flush();
    bernoullis_.flush();
  }

 private:
  OfEveryType<ConstantKernel, double> constants_;
  OfEveryType<UniformKernel, Uniform> uniforms_;
  OfEveryType<NormalKernel, Normal> normals_;
  OfEveryType<TruncNormalKernel, TruncNormal> trunc_normals_;
  OfEveryType<NormalTailKernel, NormalTail> tails_;
  OfEveryType<BernoulliKernel, Bernoulli> bernoullis_;
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
