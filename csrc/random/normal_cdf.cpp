#include "random/normal_cdf.hpp"

#include <cmath>
#include <limits>

namespace pyinit {
namespace {

constexpr double kDensityAtZero = 0.3989422804014326779;  // 1 / sqrt(2 pi)

// exp(-x) - 1 for |x| <= 0.35, by Taylor's series.
double expm1_negative(double x) {
  double sum = 1;
  for (int k = 15; k >= 2; --k) sum = std::fma(sum, -x / k, 1.0);
  return -x * sum;
}

double density(double x) {
  const double square = x * x;
  if (!(square < 1490)) return 0;  // and the rest may be infinite
  const double rest = std::fma(x, x, -square);
  return kDensityAtZero * exp_negative(square / 2) * (1 - rest / 2);
}

// log of the asymptotic series of x Q(x) / density(x), z = 1/x^2.
double tail_series(double x) {
  const double z = 1 / (x * x);
  return z * (-1 + z * (5.0 / 2 + z * (-37.0 / 3 + z * (353.0 / 4 + z * (-4081.0 / 5 + z * (55205.0 / 6))))));
}

}  // namespace

double exp_negative(double x) {
  if (!(x < 745)) return 0;
  const double n = std::nearbyint(x * 1.4426950408889634);
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  return std::ldexp(1 + expm1_negative(r), -static_cast<int>(n));
}

double one_minus_exp(double x) { return x < 0.35 ? -expm1_negative(x) : 1 - exp_negative(x); }

double normal_centre(double x) {
  const double a = std::fabs(x);
  if (a > 2) return std::copysign(0.5 - normal_upper_tail(a), x);
  double term = x, sum = x;  // x + x^3/3 + x^5/(3 5) + ...
  for (int k = 3; std::fabs(term) > 1e-18 * std::fabs(sum); k += 2) {
    term *= x * x / k;
    sum += term;
  }
  return density(x) * sum;
}

double normal_upper_tail(double x) {
  if (x < 0) return 1 - normal_upper_tail(-x);
  if (x <= 2) return 0.5 - normal_centre(x);
  if (density(x) == 0) return 0;
  double fraction = x;  // x + 1/(x + 2/(x + 3/(x + ...
  for (int k = 160; k >= 1; --k) fraction = x + k / fraction;
  return density(x) / fraction;
}

double far_tail_gap(double d, double width) {
  if (!(width * d < 64)) return std::numeric_limits<double>::infinity();
  const double s = width / (2 * d + width);  // log(1 + width/d) = 2 atanh(s)
  double atanh_over_s = 0;
  for (int k = 45; k >= 1; k -= 2) atanh_over_s = std::fma(atanh_over_s, s * s, 1.0 / k);
  return width * (d + width / 2) + 2 * s * atanh_over_s - (tail_series(d + width) - tail_series(d));
}

}  // namespace pyinit
