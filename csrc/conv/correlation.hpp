// What a convolution, its gradient by the input and a transposed convolution have in common: sums of products over
// channels and taps.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "conv/blocks.hpp"
#include "conv/convolution.hpp"
#include "conv/kernels.hpp"
#include "conv/packed_weights.hpp"
#include "conv/strip.hpp"
#include "core/integers.hpp"

namespace pyinit {

class WinogradWeights;

// Output pixels that take the same taps. The weight of output channel o and input channel i, both within group g, at
// tap t is Correlation's weight[g * group + o * output + i * input_channel + weights[t]].
template <class T> struct Phase {
  Taps taps;
  std::vector<int64_t> weights;  // in the order of the taps, the last dimension's fastest
  Images<T> output;
};

// output(n, o, p) = the sum over i and t of weight(o, i, t) input(n, i, p * step + tap t). Every phase has taps and
// pixels.
template <class T> struct Correlation {
  int64_t groups;
  Extents step;
  Images<const T> input;
  const T* weight;
  int64_t group, output, input_channel;  // distances of weights
  std::vector<Phase<T>> phases;
  int64_t products;                          // of a chain, approximately
  const PackedWeights<T>* packed = nullptr;  // the same weights once more, for the first phase
  const WinogradWeights* points = nullptr;   // and once more

  int64_t inputs() const { return input.channels / groups; }  // of one group
  int64_t outputs() const { return phases[0].output.channels / groups; }
  const T* weights(int64_t g, int64_t o, int64_t i) const {
    return weight + g * group + o * output + i * input_channel;
  }
  Reach reach() const;     // what all phases reach together
  Extents pixels() const;  // the most of any phase along each dimension
  int64_t most_taps() const;
};

// About how many inputs are summed in one chain of multiply-adds before the sum is added to others.
int64_t chain_length(int64_t inputs, int64_t taps, int64_t products);
// These are as short as torch's own sums, which are longer in the forward direction by channels.
constexpr int64_t kChainProducts = 160, kChannelsChainProducts = 320;

// Whether the elements of a vector are output channels: in images whose channels lie side by side, and in small ones.
// Otherwise they are pixels.
template <class T> bool goes_by_channels(const Correlation<T>& correlation);

template <class T>
void correlate(const Correlation<T>& correlation, const Epilogue<T>& epilogue, int threads);

// A correlation in tasks that threads take in any order.
template <class T> class Tasks {
 public:
  virtual ~Tasks() = default;
  int64_t count() const { return correlation_.groups * blocks_.count() * parts_; }
  int64_t scratch() const { return scratch_; }  // elements that a thread needs
  void run(int64_t task, T* scratch) const;

 protected:
  // Blocks have about `pixels` pixels. Parts of a group's outputs are multiples of `outputs` channels.
  Tasks(const Correlation<T>& correlation, const Epilogue<T>& epilogue, int64_t pixels, const BlockCosts& costs,
        int64_t outputs, int threads);

  struct Part {
    int64_t group;
    Block block;
    int64_t first, outputs;  // channels within the group
  };
  // One chain of multiply-adds for the outputs of a part: of the inputs [first, first + channels) of its group.
  virtual void run_chain(size_t phase, const Part& part, int64_t first, int64_t channels, const Source<T>& source,
                         T* scratch) const = 0;

  // How inputs are to be read: where they are, or from a strip, which holds `channels` channels at a time.
  void read_as_it_is();
  const Strip& read_from_strip(Order order, int64_t channels);
  // Has the weights in panels of this width, see packed(), if they are there already, or if many pixels take them and
  // they are not too large.
  void pack(PanelOrder order, int64_t width, int64_t most_bytes, int threads);
  // A phase's weights in panels of that width, or null.
  const PackedWeights<T>* packed(size_t phase) const { return packed_.empty() ? nullptr : packed_[phase]; }
  // Whether a part's outputs are single sums, which registers hold from the first product to the last.
  bool has_whole_sums() const { return correlation_.phases.size() == 1 && chains_[0] >= correlation_.inputs(); }
  // From now on run_chain() does with each sum what ending() says, so that nothing is left to be done.
  void end_in_registers();
  Ending<T> ending(const Part& part) const {
    return {biases_.data() + part.group * correlation_.outputs() + part.first, floor_};
  }
  // Where a block's outputs begin.
  T* begin(const Phase<T>& phase, const Part& part) const;

  // Reserves this many further elements of a thread's scratch, and says where they are.
  int64_t place(int64_t elements) {
    const int64_t at = scratch_;
    scratch_ += round_up(elements, 64 / int64_t{sizeof(T)});
    return at;
  }

  const Correlation<T>& correlation_;
  const Reach reach_;
  const std::vector<int64_t> chains_;  // for each phase, the inputs that one chain of multiply-adds takes
  const int64_t channels_;             // inputs that are read together: a whole number of every phase's chains
  const Blocks blocks_;
  int64_t outputs_each_;
  int64_t depth_;  // the most products of a chain
  std::optional<Strip> strip_;
  std::vector<std::vector<int64_t>> taps_;  // where each phase has them, in the strip or in the images

 private:
  Part part(int64_t task) const;
  // The pixels of a block that belong to a phase. There may be none.
  static Block clip(Block block, const Phase<T>& phase);

  Epilogue<T> epilogue_;   // what is left for the end
  std::vector<T> biases_;  // with a panel behind
  T floor_;
  std::deque<PackedWeights<T>> packed_once_;
  std::vector<const PackedWeights<T>*> packed_;
  int64_t parts_, channels_loaded_, at_strip_;
  int64_t scratch_ = 0;
};

// The most that a thread needs if it keeps the sums of a block until the last chain has been added.
constexpr int64_t kKeepingBytes = int64_t{4} << 20;

// With vectors of pixels, or of output channels.
template <class T>
std::unique_ptr<Tasks<T>> tasks_by_pixels(const Correlation<T>& correlation, const Epilogue<T>& epilogue, int threads);
template <class T>
std::unique_ptr<Tasks<T>> tasks_by_channels(const Correlation<T>& correlation, const Epilogue<T>& epilogue,
                                            int threads);

}  // namespace pyinit
