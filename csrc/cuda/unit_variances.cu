#include "cuda/unit_variances.hpp"

#include "core/integers.hpp"
#include "cuda/moments.hpp"
#include "cuda/pieces.hpp"
#include "cuda/runtime.hpp"

namespace pyinit::cuda {
namespace {

constexpr int kThreads = 128;

struct Units {
  const char* data;
  Elements samples, positions;
  int64_t sample_count, position_count, channels, channel_stride;
  bool are_columns;   // neighbouring channels are neighbours in memory
  int64_t part;       // positions that are added up at a time
  int64_t parts;      // none where a channel is a unit
  double* variances;  // times the number of samples; by channel, or by position for columns
  double* part_sums;

  PYINIT_METHOD int64_t number_of(int64_t channel, int64_t position) const {
    return are_columns ? position * channels + channel : channel * position_count + position;
  }
  // Columns come in groups; one that is left over is summed as if there were none.
  PYINIT_METHOD bool is_alone(int64_t channel) const {
    return !are_columns || (channel == channels - 1 && channels % kColumns == 1);
  }
};

PYINIT_INLINE int64_t thread_number() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

template <class T> __global__ void measure_units(const Units units) {
  const int64_t unit = thread_number();
  if (unit >= units.channels * units.position_count) return;
  const int64_t channel = units.are_columns ? unit % units.channels : unit / units.position_count;
  const int64_t position = units.are_columns ? unit / units.channels : unit % units.position_count;
  const T* const x =
      reinterpret_cast<const T*>(units.data) + channel * units.channel_stride + units.positions.offset_of(position);
  const Values<T> values(x, units.samples, 0, units.sample_count);
  const double origin = static_cast<double>(values(0).v);
  Rounded sum = 0.0, squares = 0.0;
#pragma unroll 8
  for (int64_t i = 1; i < units.sample_count; ++i) {
    const Rounded distance = static_cast<double>(values(i).v) - Rounded(origin);
    sum = sum + distance;
    squares = squares + distance * distance;
  }
  const Rounded share = 1 / Rounded(static_cast<double>(units.sample_count));
  units.variances[unit] = std::max(0.0, static_cast<double>(squares - sum * sum * share));
}

// The sum over a part of a channel's positions.
__global__ void sum_units(const Units units) {
  const int64_t thread = thread_number();
  if (thread >= units.channels * units.parts) return;
  const int64_t channel = thread / units.parts, begin = thread % units.parts * units.part;
  const int64_t left = units.position_count - begin, count = left < units.part ? left : units.part;
  const int lanes = units.is_alone(channel) ? kColumns : 1;
  double sums[kColumns] = {};
  for (int64_t i = 0; i < count; i += lanes) {
    for (int lane = 0; lane < lanes && i + lane < count; ++lane) {
      sums[lane] += units.variances[units.number_of(channel, begin + i + lane)];
    }
  }
  double all = 0;
  for (int lane = 0; lane < lanes; ++lane) all += sums[lane];
  units.part_sums[thread] = all * (1 / static_cast<double>(units.sample_count));
}

__global__ void sum_channels(const Units units, double* rows) {
  double all = 0;
  for (int64_t channel = 0; channel < units.channels; ++channel) {
    const double* const row = rows + channel * kStatistics;
    double variance = units.parts > 0 || row[0] == 0 ? 0 : row[2] / row[0];  // squares over count
    for (int64_t i = 0; i < units.parts; ++i) variance += units.part_sums[channel * units.parts + i];
    all += variance;
  }
  rows[units.channels * kStatistics] = all;
}

Units units_of(const Layout& layout) {
  Units units{};
  units.data = layout.data;
  units.samples = Elements(layout.samples);
  units.positions = Elements(layout.positions);
  units.sample_count = count_of(layout.samples);
  units.position_count = count_of(layout.positions);
  units.channels = layout.channel.size;
  units.channel_stride = layout.channel.stride;
  units.are_columns = layout.together > 1;
  units.part = layout.positions_of_part();
  // A channel of one position is a unit.
  const bool has_units = units.sample_count > 0 && units.position_count > 1;
  units.parts = has_units ? divide_up(units.position_count, units.part) : 0;
  return units;
}

int64_t variances_of(const Units& units) { return units.parts > 0 ? units.channels * units.position_count : 0; }

}  // namespace

int64_t unit_variances_scratch(const Layout& layout) {
  const Units units = units_of(layout);
  return (variances_of(units) + units.channels * units.parts) * static_cast<int64_t>(sizeof(double));
}

void sum_unit_variances(const Layout& layout, char* scratch, double* rows, const Queue& queue) {
  Units units = units_of(layout);
  const int threads = threads_of_block(kThreads);
  const int64_t variances = variances_of(units);
  if (variances > 0) {
    units.variances = reinterpret_cast<double*>(scratch);
    units.part_sums = units.variances + variances;
    visit(layout.dtype, [&](auto zero) {
      launch(measure_units<decltype(zero)>, divide_up(variances, threads), threads, queue, units);
    });
    launch(sum_units, divide_up(units.channels * units.parts, threads), threads, queue, units);
  }
  launch(sum_channels, 1, 1, queue, units, rows);
}

}  // namespace pyinit::cuda
