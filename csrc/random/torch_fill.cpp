#include "random/torch_fill.hpp"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <numbers>
#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__GLIBC__)
#include <gnu/libc-version.h>
#endif

#include "core/rounding.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrain = 1 << 15;        // elements that are worth a thread
constexpr int64_t kBatch = 512;            // elements made at a time in a buffer
constexpr int64_t kColumnWords = 1 << 17;  // of columns permuted together
constexpr int kMostPasses = 256;           // each leaves at most 0.7 of the elements: 1e-40 of them in the end

template <class T> using Lane = std::conditional_t<sizeof(T) == 8, double, float>;
template <class T> constexpr int64_t kWordsPerElement = sizeof(T) == 8 ? 2 : 1;
template <class T> constexpr bool kIsHalf = sizeof(T) == 2;
template <class T> constexpr DType kDType = DType::f32;
template <> constexpr DType kDType<Half> = DType::f16;
template <> constexpr DType kDType<BFloat16> = DType::bf16;
template <> constexpr DType kDType<double> = DType::f64;

// ---- Memory ------------------------------------------------------------------------------------------------

bool is_contiguous(const View& view) { return is_one_run(coalesce(view).dims); }

// The elements of a view in the order of memory, as torch's serial loops visit them.
template <class T> class Elements {
 public:
  explicit Elements(const View& view) : data_(reinterpret_cast<T*>(view.data)), in_order_(memory_order(view)) {}

  // make(done, n, out) writes elements first + done .. + n side by side; they land in their places.
  template <class Make> void put(int64_t first, int64_t count, Make&& make) const {
    if (is_one_run(in_order_)) return make(int64_t{0}, count, data_ + first);
    const int64_t stride = in_order_[in_order_.size() - 1].stride;
    T batch[kBatch];
    for (int64_t done = 0; done < count; done += kBatch) {
      const int64_t n = std::min(kBatch, count - done);
      make(done, n, batch);
      const T* from = batch;
      for_each_run(in_order_, first + done, first + done + n, [&](int64_t offset, int64_t run) {
        for (int64_t j = 0; j < run; ++j) data_[offset + j * stride] = *from++;
      });
    }
  }

 private:
  T* data_;
  InlineVector<Dim> in_order_;
};

// Numbers of the lanes rounded to the dtype.
template <class T> void narrow(const Lane<T>* x, int64_t count, T* out) {
  if constexpr (kIsHalf<T>) {
    torch_kernels().narrow[static_cast<int>(kDType<T>)](x, count, out);
  } else {
    std::copy_n(x, count, out);
  }
}

float widen(Half x) {
  // The bits as a float 2^112 times too small, which also puts subnormals right; infinities apart.
  const uint32_t sign = uint32_t{x.bits} >> 15 << 31, rest = x.bits & 0x7FFFU;
  if (rest >= 0x7C00U) return std::bit_cast<float>(sign | 0x7F800000U | rest << 13);
  return std::bit_cast<float>(sign | rest << 13) * 0x1p112F;
}
float widen(BFloat16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }
float widen(float x) { return x; }
double widen(double x) { return x; }

// ---- Uniform -----------------------------------------------------------------------------------------------

TorchUniform make_torch_uniform(DType dtype, double low, double high, TorchArithmetic arithmetic) {
  const DType lanes = dtype == DType::f64 ? DType::f64 : DType::f32;
  const double first = round_to(lanes, low), top = round_to(dtype, high);
  TorchUniform p{.low = first,
                 .width = round_to(lanes, round_to(lanes, high) - first),
                 .first_high = top,
                 .last_high = top,
                 .instead = round_to(dtype, low),
                 .is_fused = arithmetic != TorchArithmetic::libm};
  if (size_of(dtype) == 2) {
    // What rounds to `top`: up to the middle between it and its neighbours, or to just before that.
    const double below = (next_below(dtype, top) + top) / 2, above = (top - next_below(dtype, -top)) / 2;
    p.first_high = round_to(dtype, below) == top ? below : -next_below(DType::f32, -below);
    p.last_high = round_to(dtype, above) == top ? above : next_below(DType::f32, above);
  }
  return p;
}

// ---- Normal: blocks of 16 ------------------------------------------------------------------------------------

template <class F> F multiply_add(F x, F factor, F term, bool is_fused) {
  return is_fused ? std::fma(x, factor, term) : x * factor + term;
}

// In place, from 16 uniforms a block.
template <class F> void transform_with_libm(F* x, int64_t blocks, F mean, F std, bool is_fused) {
  for (F* block = x; block != x + 16 * blocks; block += 16) {
    for (int j = 0; j < 8; ++j) {
      const F u1 = 1 - block[j], u2 = block[j + 8];
      const F radius = std::sqrt(-2 * std::log(u1));
      const auto theta = static_cast<F>(2 * std::numbers::pi * u2);
      block[j] = multiply_add(radius * std::cos(theta), std, mean, is_fused);
      block[j + 8] = multiply_add(radius * std::sin(theta), std, mean, is_fused);
    }
  }
}

// Whether log, sin and cos have the errors that the vectors in double count on. Found out before any thread asks: a
// child forked meanwhile would wait for that thread.
const bool libm_is_known = [] {
#if defined(__GLIBC__)
  int major = 0, minor = 0;
  return std::sscanf(gnu_get_libc_version(), "%d.%d", &major, &minor) == 2 &&
         (major > 2 || (major == 2 && minor >= 28));
#else
  return false;
#endif
}();

template <class T> class BlockNormal {
 public:
  BlockNormal(double mean, double std, TorchArithmetic arithmetic)
      : normal_(make_normal(mean, std)),
        unit_(make_torch_uniform(kDType<Lane<T>>, 0, 1, arithmetic)),
        arithmetic_(arithmetic) {}

  void operator()(const uint32_t* words, int64_t blocks, T* out) const {
    if constexpr (std::is_same_v<T, Lane<T>>) {
      make(words, blocks, out);
    } else {
      Lane<T> batch[kBatch];
      for (int64_t done = 0; done < blocks; done += kBatch / 16) {
        const int64_t n = std::min(kBatch / 16, blocks - done);
        make(words + 16 * done, n, batch);
        narrow<T>(batch, 16 * n, out + 16 * done);
      }
    }
  }

 private:
  void make(const uint32_t* words, int64_t blocks, Lane<T>* out) const {
    using F = Lane<T>;
    if constexpr (std::is_same_v<F, float>) {
      if (arithmetic_ == TorchArithmetic::vector) return torch_kernels().normal_blocks(normal_, words, blocks, out);
    }
    if constexpr (std::is_same_v<F, double>) {
      const auto kernel = torch_kernels().libm_normal_blocks;
      if (kernel != nullptr && libm_is_known) {
        return kernel(normal_, arithmetic_ != TorchArithmetic::libm, words, blocks, out);
      }
    }
    torch_kernels().uniform[static_cast<int>(kDType<F>)](unit_, words, 16 * blocks, out);
    transform_with_libm(out, blocks, static_cast<F>(normal_.mean), static_cast<F>(normal_.std),
                        arithmetic_ != TorchArithmetic::libm);
  }

  Normal normal_;
  TorchUniform unit_;
  TorchArithmetic arithmetic_;
};

// One pass of torch's block path over `count` >= 16 elements: body(block, first, blocks, words) for whole
// blocks in the order of memory. What is left over is made with the last 16 elements drawn anew, as a
// block of its own; its number follows the others'.
template <class T, class Body> void block_pass(TorchGenerator& g, int64_t count, int threads, Body&& body) {
  constexpr int64_t kWords = kWordsPerElement<T>;
  const int64_t whole = count / 16 * 16, rest = count % 16;
  const int team = usable_threads(threads, count, kGrain);
  mt19937::consume(g.mt, whole * kWords, mt19937::kPiece, team, [&](int64_t first, int64_t n, const uint32_t* words) {
    body(first / kWords / 16, first / kWords, n / kWords / 16, words);
  });
  if (rest == 0) return;
  if (!kIsHalf<T>) mt19937::skip(g.mt, rest * kWords);
  mt19937::consume(g.mt, 16 * kWords, 16 * kWords, 1,
                   [&](int64_t, int64_t, const uint32_t* words) { body(whole / 16, count - 16, int64_t{1}, words); });
}

// ---- Normal: one pair after the other ------------------------------------------------------------------------

// at::normal_distribution<double>: Box and Muller with the second of a pair kept for the next element.
class SerialNormal {
 public:
  SerialNormal(double mean, double std, TorchArithmetic arithmetic)
      : mean_(mean), std_(std), is_fused_(arithmetic != TorchArithmetic::libm) {}

  struct Pair {
    double first, second;
  };
  // From four tempered words.
  static Pair pair(const uint32_t* w) {
    const double u1 = uniform(w), u2 = uniform(w + 2);
    const double radius = std::sqrt(-2.0 * std::log1p(-u2)), theta = 2.0 * std::numbers::pi * u1;
    return {radius * std::cos(theta), radius * std::sin(theta)};
  }
  double scaled(double z) const { return multiply_add(z, std_, mean_, is_fused_); }

 private:
  static double uniform(const uint32_t* w) {
    const uint64_t bits = (uint64_t{w[0]} << 32 | w[1]) & ((uint64_t{1} << 53) - 1);
    return static_cast<double>(bits) * 0x1p-53;
  }

  double mean_, std_;
  bool is_fused_;
};

// One pass over `count` elements in the order of memory: sink(first, n, values) for the elements that
// is_wanted(element) asks for (and others beside them, whose values mean nothing).
template <class T, class IsWanted, class Sink>
void serial_pass(const SerialNormal& normal, TorchGenerator& g, int64_t count, int threads, IsWanted&& is_wanted,
                 Sink&& sink) {
  const auto give = [&](int64_t element, double z) {
    const auto lane = static_cast<Lane<T>>(normal.scaled(z));
    T value;
    narrow<T>(&lane, 1, &value);
    sink(element, int64_t{1}, &value);
  };
  int64_t begin = 0;
  if (g.has_cached_normal && count > 0) {
    give(begin++, g.cached_normal);
    g.has_cached_normal = false;
    g.cached_normal = 0;
  }
  const int64_t pairs = (count - begin) / 2;
  const auto make = [&](int64_t first_word, int64_t n_words, const uint32_t* words) {
    constexpr int64_t kPairs = kBatch / 2;
    for (int64_t done = 0; done < n_words / 4; done += kPairs) {
      const int64_t n = std::min(kPairs, n_words / 4 - done), first = begin + first_word / 2 + 2 * done;
      uint32_t tempered[4 * kPairs];
      Lane<T> lanes[2 * kPairs] = {};
      T values[2 * kPairs];
      torch_kernels().temper(words + 4 * done, 4 * n, tempered);
      for (int64_t i = 0; i < n; ++i) {
        if (!is_wanted(first + 2 * i) && !is_wanted(first + 2 * i + 1)) continue;
        const SerialNormal::Pair z = SerialNormal::pair(tempered + 4 * i);
        lanes[2 * i] = static_cast<Lane<T>>(normal.scaled(z.first));
        lanes[2 * i + 1] = static_cast<Lane<T>>(normal.scaled(z.second));
      }
      narrow<T>(lanes, 2 * n, values);
      sink(first, 2 * n, static_cast<const T*>(values));
    }
  };
  mt19937::consume(g.mt, 4 * pairs, mt19937::kPiece, usable_threads(threads, count, kGrain / 16), make);
  if (begin + 2 * pairs == count) return;
  mt19937::consume(g.mt, 4, 4, 1, [&](int64_t, int64_t, const uint32_t* words) {
    uint32_t tempered[4];
    torch_kernels().temper(words, 4, tempered);
    const SerialNormal::Pair z = SerialNormal::pair(tempered);
    give(count - 1, z.first);
    g.has_cached_normal = true;
    g.cached_normal = z.second;
  });
}

// ---- Truncated normal ----------------------------------------------------------------------------------------

struct Bounds {
  double low, high;  // values of the dtype
};

// Draws the elements that are marked again until none is; a mark is a bit of its block.
template <class T>
bool trunc_by_blocks(T* data, int64_t count, TorchGenerator& g, const BlockNormal<T>& make, const Bounds& bounds,
                     int threads) {
  constexpr int64_t kWords = 16 * kWordsPerElement<T>;
  const auto mark_outside = [&](const T* x, int64_t blocks, uint16_t* marks) {
    return torch_kernels().mark_outside[static_cast<int>(kDType<T>)](x, blocks, bounds.low, bounds.high, marks);
  };
  const int64_t rest = count % 16;
  std::vector<uint16_t> marks(static_cast<size_t>(count / 16 + (rest != 0)));
  std::atomic<int64_t> pending{0};
  block_pass<T>(g, count, threads, [&](int64_t block, int64_t first, int64_t blocks, const uint32_t* words) {
    make(words, blocks, data + first);
    pending += mark_outside(data + first, blocks, &marks[static_cast<size_t>(block)]);
  });
  // What the last 16 elements have drawn anew does not count in the block before.
  if (rest != 0) {
    uint16_t& last = marks[marks.size() - 2];
    const auto kept = static_cast<uint16_t>(last & ((1U << rest) - 1));
    if (last != 0 && kept == 0) --pending;
    last = kept;
  }
  for (int pass = 1; pending != 0; ++pass) {
    if (pass == kMostPasses) return false;
    pending = 0;
    block_pass<T>(g, count, threads, [&](int64_t block, int64_t first, int64_t blocks, const uint32_t* words) {
      constexpr int64_t kBlocks = kBatch / 16;
      uint32_t gathered[kBlocks * kWords] = {};
      int64_t chosen[kBlocks], n = 0, marked = 0;
      const auto redraw = [&] {
        T drawn[kBatch];
        uint16_t outside[kBlocks];
        make(gathered, n, drawn);
        mark_outside(drawn, n, outside);
        for (int64_t k = 0; k < n; ++k) {
          uint16_t& m = marks[static_cast<size_t>(block + chosen[k])];
          for (unsigned left = m; left != 0; left &= left - 1) {
            const int j = std::countr_zero(left);
            data[first + 16 * chosen[k] + j] = drawn[16 * k + j];
          }
          m &= outside[k];
          marked += m != 0;
        }
        n = 0;
      };
      for (int64_t i = 0; i < blocks; ++i) {
        if (marks[static_cast<size_t>(block + i)] == 0) continue;
        std::copy_n(words + i * kWords, kWords, gathered + n * kWords);
        chosen[n++] = i;
        if (n == kBlocks) redraw();
      }
      redraw();
      pending += marked;
    });
  }
  return true;
}

template <class T>
bool trunc_serially(T* data, int64_t count, TorchGenerator& g, const SerialNormal& normal, const Bounds& bounds,
                    int threads) {
  std::vector<uint8_t> marks(static_cast<size_t>(count), 1);
  std::atomic<int64_t> pending{count};
  for (int pass = 0; pending != 0; ++pass) {
    if (pass == kMostPasses) return false;
    pending = 0;
    serial_pass<T>(
        normal, g, count, threads, [&](int64_t i) { return marks[static_cast<size_t>(i)] != 0; },
        [&](int64_t first, int64_t n, const T* values) {
          int64_t marked = 0;
          for (int64_t i = 0; i < n; ++i) {
            uint8_t& m = marks[static_cast<size_t>(first + i)];
            if (m == 0) continue;
            data[first + i] = values[i];
            const double x = widen(values[i]);
            m = x < bounds.low || x > bounds.high;
            marked += m;
          }
          pending += marked;
        });
  }
  return true;
}

// ---- Truncated normal by rejection ---------------------------------------------------------------------------

// Rounds each number to the dtype.
template <class T> void round_all(Lane<T>* x, int64_t count) {
  if constexpr (kIsHalf<T>) {
    T rounded[kBatch];
    narrow<T>(x, count, rounded);
    for (int64_t i = 0; i < count; ++i) x[i] = widen(rounded[i]);
  }
}

// An interval of bounds on what torch's logarithm of u may give: that is not the C library's, but errs by
// less than this many units in the last place before it is rounded to the dtype.
constexpr double kLogUlps = 3;

struct Doubtful {
  int64_t element;
  double threshold;
};

// What torch does where few normals would be accepted: uniform proposals x in [low, high), rejected if
// log(v) > log density(x), for another uniform v. Each pass draws both for the whole tensor.
template <class T> class Rejection {
 public:
  Rejection(const TruncNormalDensity& p, TorchArithmetic arithmetic)
      : proposal_(make_torch_uniform(kDType<T>, p.low, p.high, arithmetic)),
        unit_(make_torch_uniform(kDType<T>, 0, 1, arithmetic)),
        mean_(static_cast<Lane<T>>(p.mean)),
        std_(static_cast<Lane<T>>(p.std)),
        log_peak_(static_cast<Lane<T>>(p.log_peak)) {
    // torch subtracts numbers of the dtype, but divides by any.
    round_all<T>(&mean_, 1);
    round_all<T>(&log_peak_, 1);
  }

  void propose(const uint32_t* words, int64_t count, T* out) const { uniform(proposal_, words, count, out); }

  enum class Answer : uint8_t { accepted, rejected, doubtful };
  // For up to kBatch proposals. `v` and `threshold` receive the other uniforms and what their logarithm
  // must not exceed.
  void judge(const uint32_t* words, const T* proposals, int64_t count, Lane<T>* v, Lane<T>* threshold,
             Answer* answers) const {
    T uniforms[kBatch];
    uniform(unit_, words, count, uniforms);
    for (int64_t i = 0; i < count; ++i) {
      v[i] = widen(uniforms[i]);
      threshold[i] = widen(proposals[i]);
    }
    // One operation at a time, as torch rounds them.
    const auto step = [&](auto&& operation) {
      for (int64_t i = 0; i < count; ++i) threshold[i] = operation(threshold[i]);
      round_all<T>(threshold, count);
    };
    step([&](Lane<T> x) { return x - mean_; });
    step([&](Lane<T> x) { return x / std_; });
    step([&](Lane<T> x) { return x * x; });
    step([&](Lane<T> x) { return x * Lane<T>(-0.5); });
    step([&](Lane<T> x) { return x - log_peak_; });

    Lane<T> least[kBatch], most[kBatch];
    for (int64_t i = 0; i < count; ++i) {
      const double log = std::log(static_cast<double>(v[i]));
      const double error = v[i] == 0 ? 0 : std::fabs(log) * (kLogUlps * std::numeric_limits<Lane<T>>::epsilon());
      least[i] = static_cast<Lane<T>>(log - error);
      most[i] = static_cast<Lane<T>>(log + error);
    }
    round_all<T>(least, count);
    round_all<T>(most, count);
    for (int64_t i = 0; i < count; ++i) {
      const bool surely = least[i] > threshold[i], possibly = most[i] > threshold[i];
      answers[i] = surely ? Answer::rejected : possibly ? Answer::doubtful : Answer::accepted;
    }
  }

 private:
  static void uniform(const TorchUniform& p, const uint32_t* words, int64_t count, T* out) {
    torch_kernels().uniform[static_cast<int>(kDType<T>)](p, words, count, out);
  }

  TorchUniform proposal_, unit_;
  Lane<T> mean_, std_, log_peak_;
};

// use(elements, words, n) for the marked elements of a piece, a batch at a time, their words side by side.
template <class T, class Use>
void for_marked(const std::vector<uint16_t>& marks, int64_t first, int64_t count, const uint32_t* words, Use&& use) {
  constexpr int64_t kWords = kWordsPerElement<T>;
  int64_t elements[kBatch], n = 0;
  uint32_t gathered[kBatch * kWords] = {};
  for (int64_t i = 0; i < count; i += 16) {
    for (unsigned left = marks[static_cast<size_t>((first + i) / 16)]; left != 0; left &= left - 1) {
      const int64_t at = i + std::countr_zero(left);
      elements[n] = first + at;
      std::copy_n(words + at * kWords, kWords, gathered + n * kWords);
      if (++n == kBatch) use(elements, gathered, std::exchange(n, 0));
    }
  }
  if (n > 0) use(elements, gathered, n);
}

template <class T>
void trunc_by_rejection(T* data, int64_t count, TorchGenerator& g, const Rejection<T>& rejection,
                        const AskTorchsLog& ask, int threads) {
  constexpr int64_t kWords = kWordsPerElement<T>;
  std::vector<uint16_t> marks(static_cast<size_t>((count + 15) / 16), uint16_t{0xFFFF});
  if (count % 16 != 0) marks.back() = static_cast<uint16_t>((1U << count % 16) - 1);
  const int team = usable_threads(threads, count, kGrain);
  const auto pass = [&](auto&& use) {
    mt19937::consume(g.mt, count * kWords, mt19937::kPiece, team, [&](int64_t first, int64_t n, const uint32_t* words) {
      for_marked<T>(marks, first / kWords, n / kWords, words, use);
    });
  };
  const auto accept = [&](int64_t element) {
    marks[static_cast<size_t>(element / 16)] &= static_cast<uint16_t>(~(1U << element % 16));
  };
  std::atomic<int64_t> pending{count};
  while (pending > 0) {
    pass([&](const int64_t* elements, const uint32_t* words, int64_t n) {
      T drawn[kBatch];
      rejection.propose(words, n, drawn);
      for (int64_t i = 0; i < n; ++i) data[elements[i]] = drawn[i];
    });
    std::vector<Doubtful> doubtful;
    std::vector<double> asked;
    std::mutex doubts;
    pass([&](const int64_t* elements, const uint32_t* words, int64_t n) {
      using Answer = typename Rejection<T>::Answer;
      T proposals[kBatch];
      Lane<T> v[kBatch], threshold[kBatch];
      Answer answers[kBatch];
      for (int64_t i = 0; i < n; ++i) proposals[i] = data[elements[i]];
      rejection.judge(words, proposals, n, v, threshold, answers);
      int64_t accepted = 0;
      for (int64_t i = 0; i < n; ++i) {
        if (answers[i] == Answer::accepted) {
          accept(elements[i]);
          ++accepted;
        } else if (answers[i] == Answer::doubtful) {
          const std::lock_guard lock(doubts);
          doubtful.push_back({elements[i], static_cast<double>(threshold[i])});
          asked.push_back(static_cast<double>(v[i]));
        }
      }
      pending -= accepted;
    });
    ask(asked);
    for (size_t i = 0; i < doubtful.size(); ++i) {
      if (asked[i] > doubtful[i].threshold) continue;
      accept(doubtful[i].element);
      --pending;
    }
  }
}

// ---- Permutations ----------------------------------------------------------------------------------------------

__extension__ using Wide = unsigned __int128;

// w % divisor, given 2^64 / divisor rounded up (Lemire, Kaser and Kurz 2019, "Faster remainder by direct
// computation").
uint64_t remainder(uint32_t w, uint64_t reciprocal, uint64_t divisor) {
  return static_cast<uint64_t>(static_cast<Wide>(reciprocal * w) * divisor >> 64);
}

}  // namespace

void torch_uniform(const View& view, TorchGenerator& g, double low, double high, TorchArithmetic arithmetic,
                   int threads) {
  const TorchUniform p = make_torch_uniform(view.dtype, low, high, arithmetic);
  const int64_t count = view.count();
  const auto kernel = torch_kernels().uniform[static_cast<int>(view.dtype)];
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int64_t kWords = kWordsPerElement<T>;
    const Elements<T> elements(view);
    mt19937::consume(g.mt, count * kWords, mt19937::kPiece, usable_threads(threads, count, kGrain),
                     [&](int64_t first, int64_t n, const uint32_t* words) {
                       elements.put(first / kWords, n / kWords,
                                    [&](int64_t done, int64_t m, T* out) { kernel(p, words + done * kWords, m, out); });
                     });
  });
}

void torch_normal(const View& view, TorchGenerator& g, double mean, double std, TorchArithmetic arithmetic,
                  int threads) {
  const int64_t count = view.count();
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    if (count >= 16 && is_contiguous(view)) {
      const BlockNormal<T> make(mean, std, arithmetic);
      T* const data = reinterpret_cast<T*>(view.data);
      block_pass<T>(g, count, threads, [&](int64_t, int64_t first, int64_t blocks, const uint32_t* words) {
        make(words, blocks, data + first);
      });
    } else {
      const Elements<T> elements(view);
      serial_pass<T>(
          SerialNormal(mean, std, arithmetic), g, count, threads, [](int64_t) { return true; },
          [&](int64_t first, int64_t n, const T* values) {
            elements.put(first, n, [&](int64_t done, int64_t m, T* out) { std::copy_n(values + done, m, out); });
          });
    }
  });
}

bool torch_trunc_normal(const View& view, TorchGenerator& g, double mean, double std, double low, double high,
                        TorchArithmetic arithmetic, int threads) {
  if (!is_dense(view)) throw std::invalid_argument("strides: must be those of dense memory");
  const int64_t count = view.count();
  // As torch rounds the bounds: to a float on the way to a 16-bit number.
  const auto rounded = [&](double bound) {
    return round_to(view.dtype, size_of(view.dtype) == 2 ? round_to(DType::f32, bound) : bound);
  };
  return visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    T* const data = reinterpret_cast<T*>(view.data);
    const Bounds bounds{rounded(low), rounded(high)};
    if (count >= 16 && is_contiguous(view)) {
      return trunc_by_blocks<T>(data, count, g, BlockNormal<T>(mean, std, arithmetic), bounds, threads);
    }
    return trunc_serially<T>(data, count, g, SerialNormal(mean, std, arithmetic), bounds, threads);
  });
}

void torch_reject_trunc_normal(const View& view, TorchGenerator& g, const TruncNormalDensity& p,
                               TorchArithmetic arithmetic, const AskTorchsLog& ask, int threads) {
  if (!is_dense(view)) throw std::invalid_argument("strides: must be those of dense memory");
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    trunc_by_rejection<T>(reinterpret_cast<T*>(view.data), view.count(), g, Rejection<T>(p, arithmetic), ask, threads);
  });
}

void torch_zero_rows(const View& view, TorchGenerator& g, int64_t zeros, int threads) {
  if (view.dims.size() != 2) throw std::invalid_argument("shape: needs two dimensions");
  const Dim rows = view.dims[0], columns = view.dims[1];
  if (zeros < 0 || zeros > rows.size) throw std::invalid_argument("zeros: must lie in [0, rows]");
  // From 2^32 / 20 rows on, torch draws two words a step.
  if (rows.size >= std::numeric_limits<uint32_t>::max() / 20) throw std::invalid_argument("shape: has too many rows");
  if (rows.size == 0) return;
  const int64_t steps = rows.size - 1;  // words a column: each step of the shuffle but the last
  std::vector<uint32_t> in_order(static_cast<size_t>(rows.size));
  std::iota(in_order.begin(), in_order.end(), 0U);
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    T* const data = reinterpret_cast<T*>(view.data);
    if (steps == 0) {
      for (int64_t c = 0; zeros == 1 && c < columns.size; ++c) data[c * columns.stride] = T{};
      return;
    }
    // Columns side by side share cache lines: up to 32 of them, as bits of their rows.
    const int64_t together = std::clamp<int64_t>(kColumnWords / steps, 1, 32);
    const int64_t drawn = std::min(zeros, steps);
    std::vector<uint64_t> reciprocals(static_cast<size_t>(drawn));
    for (int64_t i = 0; i < drawn; ++i) {
      reciprocals[static_cast<size_t>(i)] = ~uint64_t{0} / static_cast<uint64_t>(rows.size - i) + 1;
    }
    const auto zero_columns = [&](int64_t first_word, int64_t n, const uint32_t* words) {
      std::vector<uint32_t> tempered(static_cast<size_t>(drawn)), order(in_order.size());
      std::vector<uint32_t> marks(in_order.size());
      const int64_t first = first_word / steps, count = n / steps;
      for (int64_t c = 0; c < count; ++c) {
        const uint32_t column = uint32_t{1} << c;
        torch_kernels().temper(words + c * steps, drawn, tempered.data());
        std::copy(in_order.begin(), in_order.end(), order.begin());
        // Step i swaps place i with one from there on; place i is never looked at again.
        for (size_t i = 0; i < tempered.size(); ++i) {
          uint32_t& other = order[i + remainder(tempered[i], reciprocals[i], order.size() - i)];
          marks[other] |= column;
          other = order[i];
        }
        if (zeros > drawn) marks[order.back()] |= column;
      }
      for (int64_t r = 0; r < rows.size; ++r) {
        T* const row = data + r * rows.stride + first * columns.stride;
        constexpr int64_t kAhead = 8;  // rows are far apart in memory
        if (r + kAhead < rows.size) {
          __builtin_prefetch(row + kAhead * rows.stride, 1);
          __builtin_prefetch(row + kAhead * rows.stride + (count - 1) * columns.stride, 1);
        }
        for (uint32_t left = marks[static_cast<size_t>(r)]; left != 0; left &= left - 1) {
          row[std::countr_zero(left) * columns.stride] = T{};
        }
      }
    };
    mt19937::consume(g.mt, columns.size * steps, together * steps, usable_threads(threads, view.count(), kGrain),
                     zero_columns);
  });
}

}  // namespace pyinit
