// Truncated normals where torch rejects uniform proposals: few normals would lie within the bounds.
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/parallel.hpp"
#include "random/torch_elements.hpp"
#include "random/torch_fill.hpp"

namespace pyinit {

using namespace torch_stream;

namespace {

// Rounds each number to the dtype.
template <class T> void round_all(Lane<T>* x, int64_t count) {
  if constexpr (kIsHalf<T>) {
    T rounded[kBatch];
    narrow<T>(x, count, rounded);
    for (int64_t i = 0; i < count; ++i) x[i] = value_of(rounded[i]);
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
      v[i] = value_of(uniforms[i]);
      threshold[i] = value_of(proposals[i]);
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

}  // namespace

void torch_reject_trunc_normal(const View& view, TorchGenerator& g, const TruncNormalDensity& p,
                               TorchArithmetic arithmetic, const AskTorchsLog& ask, int threads) {
  if (!is_dense(view)) throw std::invalid_argument("strides: must be those of dense memory");
  visit(view.dtype, [&](auto type) {
    using T = decltype(type);
    trunc_by_rejection<T>(reinterpret_cast<T*>(view.data), view.count(), g, Rejection<T>(p, arithmetic), ask, threads);
  });
}

}  // namespace pyinit
