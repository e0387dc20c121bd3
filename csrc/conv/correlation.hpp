// What a convolution, its gradient by the input and a transposed convolution have in common: sums of products over
// channels and taps.
#pragma once

#include <memory>
#include <vector>

#include "conv/blocks.hpp"
#include "conv/convolution.hpp"
#include "conv/strip.hpp"

namespace pyinit {

// The weight of output channel o, input channel i (both within group g) and tap t stands at
// data[g * group + o * output + i * input + taps[t]].
template <class T> struct Weights {
  const T* data;
  int64_t group, output, input;
  std::vector<int64_t> taps;  // in the order of the reach's
};

// output(n, o, p) = the sum over i and t of weight(o, i, t) input(n, i, p * step + tap t). There is at least one tap.
template <class T> struct Correlation {
  Reach reach;
  int64_t groups;
  Images<const T> input;
  Weights<T> weights;
  Images<T> output;

  int64_t inputs() const { return input.channels / groups; }  // of a group
  int64_t outputs() const { return output.channels / groups; }
};

template <class T>
void correlate(const std::vector<Correlation<T>>& correlations, const Epilogue<T>& epilogue, int threads);

// A correlation in tasks that threads take in any order.
template <class T> class Tasks {
 public:
  virtual ~Tasks() = default;
  int64_t count() const { return groups_ * blocks_.count() * parts_; }
  int64_t scratch() const { return scratch_; }  // elements that a thread needs
  virtual void run(int64_t task, T* scratch) const = 0;

 protected:
  // Blocks of about so many pixels. Parts of a group's outputs are multiples of `outputs` channels.
  Tasks(const Correlation<T>& correlation, const Epilogue<T>& epilogue, int64_t pixels, int64_t align, int64_t outputs,
        int threads);

  struct Part {
    int64_t group;
    Block block;
    int64_t first, outputs;  // within the group
  };
  Part part(int64_t task) const;
  // Where the pixels of a block lie, the images' and dimensions' distances given.
  static void pixels(const Block& block, int64_t image, const Extents& step, int64_t* offsets);

  const Correlation<T>& correlation_;
  const Epilogue<T>& epilogue_;
  const Blocks blocks_;
  int64_t groups_, parts_, outputs_each_;
  int64_t channels_each_;  // inputs that one chain of multiply-adds takes
  int64_t scratch_ = 0;
};

// With vectors of pixels, or of output channels.
template <class T>
std::unique_ptr<Tasks<T>> tasks_by_pixels(const Correlation<T>& correlation, const Epilogue<T>& epilogue, int threads);
template <class T>
std::unique_ptr<Tasks<T>> tasks_by_channels(const Correlation<T>& correlation, const Epilogue<T>& epilogue,
                                            int threads);

}  // namespace pyinit
