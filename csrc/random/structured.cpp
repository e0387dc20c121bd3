#include "random/structured.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "core/parallel.hpp"
#include "core/rounding.hpp"
#include "random/kernels.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrainBytes = 1 << 20;  // of a constant, worth a thread
constexpr int64_t kGrain = 1 << 14;       // elements of a sparse matrix, worth a thread
constexpr int64_t kPanel = 1024;          // columns of a sparse matrix made together

uint16_t to_bits(DType t, double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000U : 0;
  const Format f = format(t);
  const int exponent_bits = 16 - f.precision;
  const int infinity = ((1 << exponent_bits) - 1) << (f.precision - 1);
  const double rounded = std::fabs(round_to(t, value));
  if (std::isnan(value)) return static_cast<uint16_t>(infinity | 1 << (f.precision - 2));
  if (std::isinf(rounded)) return static_cast<uint16_t>(sign | infinity);
  // Counted from zero in steps of the spacing, values of the same sign are consecutive bit patterns.
  const double unit = spacing(t, rounded);
  const int binade = rounded == 0 ? 0 : std::max(std::ilogb(rounded) - f.min_exponent, 0);
  return static_cast<uint16_t>(sign | (static_cast<int>(rounded / unit) + (binade << (f.precision - 1))));
}

Half element(Half, double value) { return {to_bits(DType::f16, value)}; }
BFloat16 element(BFloat16, double value) { return {to_bits(DType::bf16, value)}; }
float element(float, double value) { return static_cast<float>(value); }
double element(double, double value) { return value; }

// `count` elements from `to` on; pattern is the element repeated over 8 bytes.
template <class T> void fill_run(T* to, int64_t count, int64_t stride, T value, uint64_t pattern) {
  if (stride != 1) {
    for (int64_t i = 0; i < count; ++i) to[i * stride] = value;
    return;
  }
  if (pattern == 0) {
    std::memset(static_cast<void*>(to), 0, static_cast<size_t>(count) * sizeof(T));
    return;
  }
  constexpr int64_t kPerPattern = 8 / sizeof(T);
  random_kernels().repeat(pattern, to, count / kPerPattern);
  for (int64_t i = count / kPerPattern * kPerPattern; i < count; ++i) to[i] = value;
}

}  // namespace

void fill_constant(const View& view, double value, int threads) {
  const int64_t count = view.count();
  if (count == 0) return;
  const InlineVector<Dim> in_order = memory_order(view);
  const int64_t stride = in_order[in_order.size() - 1].stride;
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    const T x = element(type, value);
    T eight_bytes[8 / sizeof(T)];
    std::fill_n(eight_bytes, 8 / sizeof(T), x);
    const auto pattern = std::bit_cast<uint64_t>(eight_bytes);
    T* data = reinterpret_cast<T*>(view.data);
    const int team = usable_threads(threads, count * static_cast<int64_t>(sizeof(T)), kGrainBytes);
    parallel_pieces(team, count, 64, 1, [&](int64_t begin, int64_t end) {
      for_each_run(in_order, begin, end,
                   [&](int64_t offset, int64_t n) { fill_run(data + offset, n, stride, x, pattern); });
    });
  });
}

void fill_dirac(const View& view, int64_t groups, int threads) {
  if (view.dims.size() < 2) throw std::invalid_argument("shape: needs two dimensions or more");
  if (groups < 1 || view.dims[0].size % groups != 0) throw std::invalid_argument("groups: must divide dimension 0");
  fill_constant(view, 0, threads);
  if (view.count() == 0) return;
  const Dim out = view.dims[0], in = view.dims[1];
  const int64_t per_group = out.size / groups;
  int64_t centre = 0;
  for (size_t i = 2; i < view.dims.size(); ++i) centre += view.dims[i].size / 2 * view.dims[i].stride;
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    T* data = reinterpret_cast<T*>(view.data) + centre;
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t d = 0; d < std::min(per_group, in.size); ++d) {
        data[(g * per_group + d) * out.stride + d * in.stride] = element(type, 1);
      }
    }
  });
}

void fill_sparse(const View& view, const Stream& stream, int64_t zeros, double std, int threads) {
  if (view.dims.size() != 2) throw std::invalid_argument("shape: needs two dimensions");
  const Dim rows = view.dims[0], columns = view.dims[1];
  if (zeros < 0 || zeros > rows.size) throw std::invalid_argument("zeros: must lie in [0, rows]");
  if (rows.size > std::numeric_limits<int32_t>::max()) throw std::invalid_argument("shape: takes fewer than 2^31 rows");
  if (view.count() == 0) return;
  const RandomKernels& kernels = random_kernels();
  const Normal normal = make_normal(0, std);
  const Stream choice{stream.key, stream.id + 1};
  const auto fill_as = [&](auto bits) {
    using Bits = decltype(bits);
    Bits* data = reinterpret_cast<Bits*>(view.data);
    const auto generate = kernels.normal[static_cast<int>(view.dtype)];
    const int team = usable_threads(threads, view.count(), kGrain);
    parallel_ranges(team, columns.size, kPanel / 16, [&](int64_t first_column, int64_t last_column) {
      uint32_t words[kPanel], remaining[kPanel], chosen[kPanel];
      Bits values[kPanel] = {};
      Lookout lookout;
      for (int64_t panel = first_column; panel < last_column; panel += kPanel) {
        const int64_t width = std::min(kPanel, last_column - panel);
        std::fill_n(remaining, kPanel, static_cast<uint32_t>(zeros));
        for (int64_t row = 0; row < rows.size; ++row) {
          const uint64_t index = static_cast<uint64_t>(row * columns.size + panel);
          generate(normal, stream, {index, width}, values);
          kernels.raw_words({}, choice, {index, width}, words);
          // Whole vectors: columns beyond `width` are never looked at.
          kernels.select_step(words, static_cast<uint32_t>(rows.size - row), remaining, chosen, kPanel);
          // `chosen` is all ones or zero; widened or narrowed as a signed number, it stays so.
          for (int64_t j = 0; j < kPanel; ++j) values[j] &= static_cast<Bits>(~static_cast<int32_t>(chosen[j]));
          Bits* to = data + row * rows.stride + panel * columns.stride;
          if (columns.stride == 1) {
            std::memcpy(to, values, static_cast<size_t>(width) * sizeof(Bits));
          } else {
            for (int64_t j = 0; j < width; ++j) to[j * columns.stride] = values[j];
          }
          lookout.after(kPanel);
        }
      }
    });
  };
  switch (size_of(view.dtype)) {
    case 2: return fill_as(uint16_t{});
    case 4: return fill_as(uint32_t{});
    default: return fill_as(uint64_t{});
  }
}

}  // namespace pyinit
