#include "core/isa.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace pyinit {
namespace {

constexpr const char* kNames[] = {
#define X(name) #name,
    PYINIT_FOR_EACH_ISA(X)
#undef X
};

#if defined(__x86_64__)
bool has_f16c() {  // which __builtin_cpu_supports of Clang 16 does not know
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

bool machine_has(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (isa) {
    case Isa::baseline: return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
             __builtin_cpu_supports("bmi2") && has_f16c();
    case Isa::avx512:
      return machine_has(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
  }
  return false;
#else
  return isa == Isa::neon;
#endif
}

Isa find(std::string_view wanted, const std::string& what) {
  std::string choices;
  for (const Isa isa : available_isas()) {
    if (wanted == name(isa)) return isa;
    choices += choices.empty() ? "" : ", ";
    choices += name(isa);
  }
  throw std::invalid_argument(what + ": got '" + std::string(wanted) + "', this machine takes one of: " + choices);
}

// Known before any thread asks: a child forked while another thread finds it out would wait for that one.
std::atomic<Isa> active{available_isas().back()};

}  // namespace

const char* name(Isa isa) { return kNames[static_cast<int>(isa)]; }

bool has_fma(Isa isa) {
#if defined(__x86_64__)
  return isa != Isa::baseline;
#else
  return isa == Isa::neon;
#endif
}

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (int i = 0; i < static_cast<int>(std::size(kNames)); ++i) {
    if (machine_has(static_cast<Isa>(i))) isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}

Isa active_isa() { return active.load(std::memory_order_relaxed); }

void set_active_isa(std::string_view wanted) { active = find(wanted, "isa"); }

void set_active_isa_from_environment() {
  const char* wanted = std::getenv("PYINIT_ISA");
  if (wanted != nullptr && *wanted != '\0') active = find(wanted, "PYINIT_ISA");
}

}  // namespace pyinit
