// Instruction sets: which are compiled in, which the machine has, which one is in use.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pyinit {

// Worst first. X(name, ...) for every instruction set compiled in; kernels live in namespaces of that name.
#if defined(__x86_64__)
#define PYINIT_FOR_EACH_ISA(X, ...) \
  X(baseline __VA_OPT__(, ) __VA_ARGS__) X(avx2 __VA_OPT__(, ) __VA_ARGS__) X(avx512 __VA_OPT__(, ) __VA_ARGS__)
#else
#define PYINIT_FOR_EACH_ISA(X, ...) X(neon __VA_OPT__(, ) __VA_ARGS__)
#endif

enum class Isa : int {
#define X(name) name,
  PYINIT_FOR_EACH_ISA(X)
#undef X
};

const char* name(Isa isa);
bool has_fma(Isa isa);              // fused multiply-add as an instruction
std::vector<Isa> available_isas();  // worst first

// The one in use: the best available one until another is set.
Isa active_isa();
// Throws where the machine does not have it.
void set_active_isa(std::string_view name);
// The one that PYINIT_ISA names, if that is set; its name goes into the error.
void set_active_isa_from_environment();

// Declares a constant `name` of that type in the namespace of every instruction set, a table of kernels, and
// name(), the one of the set in use.
#define PYINIT_KERNEL_TABLE(Type, name)                                                             \
  PYINIT_FOR_EACH_ISA(PYINIT_DECLARE_TABLE, Type, name)                                             \
  inline const Type& name() {                                                                       \
    static const Type* const tables[] = {PYINIT_FOR_EACH_ISA(PYINIT_ADDRESS_OF_TABLE, Type, name)}; \
    return *tables[static_cast<int>(active_isa())];                                                 \
  }
#define PYINIT_DECLARE_TABLE(isa, Type, name) \
  namespace isa {                             \
  extern const Type name;                     \
  }
#define PYINIT_ADDRESS_OF_TABLE(isa, Type, name) &isa::name,

}  // namespace pyinit
