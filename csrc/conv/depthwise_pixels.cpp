// Channels lie side by side: outputs are made pixel by pixel, straight from the images. Pixels near an edge have fewer
// taps than those inside, and a row is cut into runs of pixels that have the same ones.
#include <algorithm>
#include <vector>

#include "conv/depthwise_kernels.hpp"
#include "conv/depthwise_routes.hpp"
#include "conv/finish.hpp"
#include "core/integers.hpp"
#include "core/parallel.hpp"
#include "core/scratch.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = int64_t{1} << 16;       // multiply-adds that a thread is worth
constexpr int64_t kPixels = 256;                   // whose products are added up in single precision, about
constexpr int64_t kChannelUnit = 16;               // threads share out channels by
constexpr int64_t kPastCaches = int64_t{8} << 20;  // bytes, of outputs that will not stay in the caches
constexpr int64_t kManyChannels = 128;             // enough to share out
// Parts of the rows are summed on their own, so that threads read what lies side by side.
constexpr int64_t kParts = 4, kPartWork = int64_t{1} << 21;
constexpr int64_t kSumsBytes = int64_t{4} << 20;  // of all parts

// Taps and where they are from a place in the source.
struct AxisTaps {
  std::vector<int64_t> taps, offsets;
  bool operator==(const AxisTaps&) const = default;
};

// A spatial dimension: what each output takes.
struct Axis {
  struct Place {
    int64_t base;  // in the source, possibly outside
    size_t taps;   // which of `lists`
  };
  std::vector<Place> places;
  std::vector<AxisTaps> lists;
};

Axis make_axis(const Window& w, size_t i, bool transposed, int64_t taps, int64_t source_size, int64_t out_size) {
  const int64_t stride = w.stride[i], padding = w.padding[i];
  Axis axis;
  for (int64_t q = 0; q < out_size; ++q) {
    const int64_t base = transposed ? (q + padding) / stride : q * stride - padding;
    AxisTaps list;
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t at = t * w.dilation[i], offset = transposed ? -(at / stride) : at;
      if (transposed && at % stride != (q + padding) % stride) continue;
      if (base + offset < 0 || base + offset >= source_size) continue;
      list.taps.push_back(t), list.offsets.push_back(offset);
    }
    const auto found = std::find(axis.lists.begin(), axis.lists.end(), list);
    axis.places.push_back({base, static_cast<size_t>(found - axis.lists.begin())});
    if (found == axis.lists.end()) axis.lists.push_back(std::move(list));
  }
  return axis;
}

// Outputs of a row, `step` apart, that have the same taps.
struct Run {
  int64_t first, count;
  size_t taps;
};

std::vector<Run> make_runs(const Axis& axis, int64_t step) {
  std::vector<Run> runs;
  const auto size = static_cast<int64_t>(axis.places.size());
  for (int64_t phase = 0; phase < std::min(step, size); ++phase) {
    for (int64_t q = phase; q < size; q += step) {
      const size_t taps = axis.places[static_cast<size_t>(q)].taps;
      if (q == phase || runs.back().taps != taps) runs.push_back({q, 0, taps});
      ++runs.back().count;
    }
  }
  return runs;
}

// The taps of a run: at what distance they are in the source, and their rows of a table with a row for each tap.
template <class U> struct TapList {
  std::vector<int64_t> offsets;
  std::vector<U*> rows;
};

template <class U, class S>
void fill_list(const std::array<Axis, kSpatial>& axes, const std::array<size_t, kSpatial>& lists, const Extents& kernel,
               const Images<S>& source, U* table, TapList<U>& out) {
  const AxisTaps &d = axes[0].lists[lists[0]], &h = axes[1].lists[lists[1]], &w = axes[2].lists[lists[2]];
  out.offsets.clear(), out.rows.clear();
  for (size_t i = 0; i < d.taps.size(); ++i) {
    for (size_t j = 0; j < h.taps.size(); ++j) {
      for (size_t k = 0; k < w.taps.size(); ++k) {
        out.offsets.push_back(d.offsets[i] * source.strides[0] + h.offsets[j] * source.strides[1] +
                              w.offsets[k] * source.strides[2]);
        out.rows.push_back(table + ((d.taps[i] * kernel[1] + h.taps[j]) * kernel[2] + w.taps[k]) * source.channels);
      }
    }
  }
}

// Goes through rows of outputs, with the lists of the last row at hand: those of the next are mostly the same.
template <class U, class S> class Rows {
 public:
  Rows(const Window& window, bool transposed, const Images<S>& source, const Extents& kernel, const Extents& out_size)
      : source_(source), kernel_(kernel), step_(transposed ? window.stride[2] : 1) {
    for (size_t i = 0; i < kSpatial; ++i) {
      axes_[i] = make_axis(window, i, transposed, kernel[i], source.size[i], out_size[i]);
    }
    runs_ = make_runs(axes_[2], step_);
    find_threes();
    // The rows of the source below a row's last taps are what the next row of outputs adds, if it takes most of them.
    ahead_.first = (transposed ? 1 : (kernel[1] - 1) * window.dilation[1] + 1) * source.strides[1];
    const bool takes_most = window.stride[2] <= kernel[2];
    ahead_.row = source.strides[1];
    ahead_.rows = transposed ? 1 : takes_most ? std::min(window.stride[1], kernel[1]) : 0;
    source_step_ = transposed ? source.strides[2] : window.stride[2] * source.strides[2];
  }

  struct Lists {
    std::array<size_t, 2> of{SIZE_MAX, SIZE_MAX};
    std::vector<TapList<U>> runs;
  };

  int64_t step() const { return step_; }
  int64_t source_step() const { return source_step_; }
  // From a run's place in the source.
  Ahead ahead() const { return ahead_; }

  // Whether rows are taken whole: the run that takes three taps, one pixel before it that takes the last two and one
  // behind it that takes the first two, of which there may be neither.
  struct Threes {
    bool are_all, lack_first, lack_last;
  };
  const Threes& threes() const { return threes_; }
  // How many rows from row h on, of `most`, take the same taps.
  int64_t alike(int64_t h, int64_t most) const {
    const auto taps = [&](int64_t at) { return axes_[1].places[static_cast<size_t>(at)].taps; };
    int64_t count = 1;
    while (count < most && h + count < static_cast<int64_t>(axes_[1].places.size()) && taps(h + count) == taps(h))
      ++count;
    return count;
  }

  // f(first, count, list, the first's place in the source) for the runs of row (d, h) of image n.
  template <class F> void for_each_run(int64_t n, int64_t d, int64_t h, U* table, Lists& lists, F&& f) const {
    const Axis::Place &at_d = axes_[0].places[static_cast<size_t>(d)], &at_h = axes_[1].places[static_cast<size_t>(h)];
    const std::array<size_t, 2> of = {at_d.taps, at_h.taps};
    if (of != lists.of) {
      lists.of = of, lists.runs.resize(runs_.size());
      for (size_t i = 0; i < runs_.size(); ++i) {
        fill_list(axes_, {of[0], of[1], runs_[i].taps}, kernel_, source_, table, lists.runs[i]);
      }
    }
    for (size_t i = 0; i < runs_.size(); ++i) {
      const int64_t base = axes_[2].places[static_cast<size_t>(runs_[i].first)].base;
      f(runs_[i].first, runs_[i].count, lists.runs[i],
        source_.data + n * source_.batch_stride + at_d.base * source_.strides[0] + at_h.base * source_.strides[1] +
            base * source_.strides[2]);
    }
  }

 private:
  void find_threes() {
    const auto taps = [&](size_t run) { return axes_[2].lists[runs_[run].taps].taps; };
    const std::vector<int64_t> last_two = {1, 2}, all = {0, 1, 2}, first_two = {0, 1};
    size_t run = 0;
    threes_.lack_first = runs_[0].count == 1 && taps(0) == last_two;
    if (threes_.lack_first) ++run;
    const bool has_all = run < runs_.size() && taps(run) == all;
    if (has_all) ++run;
    threes_.lack_last = run < runs_.size() && runs_[run].count == 1 && taps(run) == first_two;
    if (threes_.lack_last) ++run;
    threes_.are_all =
        has_all && run == runs_.size() && kernel_[2] == 3 && kernel_[0] * kernel_[1] <= 3 && source_.strides[2] != 0;
  }

  Images<S> source_;
  Extents kernel_;
  int64_t step_, source_step_;
  Ahead ahead_;
  std::array<Axis, kSpatial> axes_;
  std::vector<Run> runs_;
  Threes threes_{};
};

template <class T> T* row_of(const Images<T>& x, int64_t n, int64_t d, int64_t h) {
  return x.data + n * x.batch_stride + d * x.strides[0] + h * x.strides[1];
}

// Whether all pixels begin at multiples of 64 bytes and are too many to stay in the caches.
template <class T> bool goes_past_caches(const Images<T>& x) {
  const auto whole = [](int64_t stride) { return stride * static_cast<int64_t>(sizeof(T)) % 64 == 0; };
  return reinterpret_cast<uintptr_t>(x.data) % 64 == 0 && whole(x.channels) && whole(x.batch_stride) &&
         std::all_of(x.strides.begin(), x.strides.end(), whole) &&
         x.batch * x.pixels() * x.channels * static_cast<int64_t>(sizeof(T)) >= kPastCaches;
}

}  // namespace

template <class T>
void depthwise_pixels(const Window& window, bool transposed, const Images<const T>& source,
                      const Images<const T>& weight, const Epilogue<T>& epilogue, const Images<T>& out, int threads) {
  const int64_t channels = out.channels, taps = weight.pixels();
  const Scratch<T> table(taps * channels);
  for (int64_t t = 0; t < taps; ++t) {
    const T* const from =
        row_of(weight, 0, t / (weight.size[1] * weight.size[2]), t / weight.size[2] % weight.size[1]) +
        t % weight.size[2] * weight.strides[2];
    for (int64_t c = 0; c < channels; ++c) table.data()[t * channels + c] = from[c * weight.batch_stride];
  }

  const Rows<const T, const T> rows(window, transposed, source, weight.size, out.size);
  const T floor = lowest(epilogue);
  const bool past_caches = goes_past_caches(out) && rest(epilogue).activation == Activation::none;
  const int64_t in_image = out.size[0] * out.size[1], work = out.batch * out.pixels() * channels * taps;
  parallel_ranges(usable_threads(threads, work, kGrain), out.batch * in_image, 1, [&](int64_t begin, int64_t end) {
    typename Rows<const T, const T>::Lists lists;
    Lookout lookout;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / in_image, d = i % in_image / out.size[1], h = i % out.size[1];
      T* const to = row_of(out, n, d, h);
      rows.for_each_run(n, d, h, table.data(), lists, [&](int64_t first, int64_t count, const auto& list, const T* x) {
        depthwise_kernels<T>().correlate_channels(
            count, channels, {static_cast<int64_t>(list.offsets.size()), list.offsets.data(), list.rows.data()}, x,
            rows.source_step(), rows.ahead(), epilogue.bias, floor,
            {to + first * out.strides[2], rows.step() * out.strides[2], past_caches});
      });
      finish(rest(epilogue), out, {n, 1, {d, h, 0}, {1, 1, out.size[2]}}, 0, channels);
      lookout.after(out.size[2] * channels * taps);
    }
    if (past_caches) depthwise_kernels<T>().fence();
  });
}

template <class T>
void depthwise_pixels_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads) {
  const int64_t channels = output.channels, taps = weight.pixels();
  const Rows<T, const T> rows(window, false, input, weight.size, output.size);
  const auto& threes = rows.threes();
  const bool in_threes = threes.are_all && output.size[2] <= kPixels;
  const int64_t x_row = window.stride[1] * input.strides[1], x_step = rows.source_step();
  const int64_t y_row = output.strides[1], y_step = output.strides[2];

  // Of few channels, or much work, parts of the rows are summed on their own.
  const int64_t in_image = output.size[0] * output.size[1], all = output.batch * in_image;
  const int64_t kept = kSumsBytes / int64_t{sizeof(double)} / (taps * channels);
  const int64_t worth = std::min({kParts, output.batch * output.pixels() * channels * taps / kPartWork, kept});
  const int64_t parts = std::clamp<int64_t>(std::max(kManyChannels / channels, worth), 1, std::max<int64_t>(all, 1));
  const int64_t part = divide_up(all, parts), units = divide_up(channels, kChannelUnit);
  std::vector<double> sums(static_cast<size_t>(parts * taps * channels));
  const int64_t work = output.batch * output.pixels() * channels * taps;
  parallel_ranges(usable_threads(threads, work, kGrain), parts * units, 1, [&](int64_t begin, int64_t end) {
    typename Rows<T, const T>::Lists lists;
    const Scratch<T> table(taps * channels);
    Lookout lookout;
    for (int64_t task = begin; task < end;) {
      // The units of a part that this thread has go together.
      const int64_t p = task / units, c = task % units * kChannelUnit;
      const int64_t next = std::min(end, (p + 1) * units);
      const int64_t width = std::min((next - p * units) * kChannelUnit, channels) - c;
      task = next;
      std::fill_n(table.data(), taps * channels, T{0});
      int64_t pixels = 0;
      const auto flush = [&] {
        for (int64_t t = 0; t < taps; ++t) {
          depthwise_kernels<T>().take_sums(width, table.data() + t * channels + c,
                                           sums.data() + (p * taps + t) * channels + c);
        }
        pixels = 0;
      };
      const int64_t last = std::min((p + 1) * part, all);
      for (int64_t i = p * part, some = 1; i < last; i += some) {
        const int64_t n = i / in_image, d = i % in_image / output.size[1], h = i % output.size[1];
        const T* const y = row_of(output, n, d, h) + c;
        some = in_threes ? rows.alike(h, std::min(last - i, kPixels / output.size[2])) : 1;
        const auto add = [&](const TapList<T>& list, const PixelRows& of, const T* x, const T* gradient) {
          depthwise_kernels<T>().add_products_of_channels(
              width, {static_cast<int64_t>(list.offsets.size()), list.offsets.data(), list.rows.data()}, of, x,
              gradient);
          pixels += of.rows * (of.count + (of.lacks_first ? 1 : 0) + (of.lacks_last ? 1 : 0));
          if (pixels >= kPixels) flush();
        };
        rows.for_each_run(
            n, d, h, table.data() + c, lists, [&](int64_t first, int64_t count, const TapList<T>& list, const T* x) {
              x += c;
              if (in_threes) {
                const int64_t before = threes.lack_first ? 1 : 0;
                if (first != before) return;
                add(list, {some, count, threes.lack_first, threes.lack_last, x_row, x_step, y_row, y_step},
                    x - before * x_step, y);
              } else if (!list.offsets.empty()) {
                for (int64_t j = 0; j < count; j += kPixels) {
                  add(list, {1, std::min(kPixels, count - j), false, false, 0, x_step, 0, y_step}, x + j * x_step,
                      y + (first + j) * y_step);
                }
              }
            });
        lookout.after(some * output.size[2] * width * taps);
      }
      flush();
      lists = {};  // they are for channels from c on
    }
  });

  for (int64_t t = 0; t < taps; ++t) {
    T* const to = row_of(weight, 0, t / (weight.size[1] * weight.size[2]), t / weight.size[2] % weight.size[1]) +
                  t % weight.size[2] * weight.strides[2];
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t p = 0; p < parts; ++p) sum += sums[static_cast<size_t>((p * taps + t) * channels + c)];
      to[c * weight.batch_stride] = static_cast<T>(sum);
    }
  }
}

#define PYINIT_INSTANTIATE(T)                                                                               \
  template void depthwise_pixels<T>(const Window&, bool, const Images<const T>&, const Images<const T>&,    \
                                    const Epilogue<T>&, const Images<T>&, int);                             \
  template void depthwise_pixels_gradient<T>(const Window&, const Images<const T>&, const Images<const T>&, \
                                             const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)

}  // namespace pyinit
