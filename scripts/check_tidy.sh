#!/usr/bin/env bash
# Runs clang-tidy, with the checks of .clang-tidy, on C++ sources:
#   check_tidy.sh                 those that differ from the main branch or, on it, from the last commit but one
#   check_tidy.sh --since COMMIT  those that differ from a commit
#   check_tidy.sh --all           all
#   check_tidy.sh FILE...         these; a header is checked as a part of a source that includes it
# With --list in front it prints the files instead. Takes the Python with pybind11: $PYTHON, or python.
# Exit status 77: clang-tidy is missing, nothing was checked.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python}

all_files() { find csrc -name '*.cpp'; }

# Committed, uncommitted and new ones. Without a history nobody knows, and csrc/core stands for all.
changed_files() {
  local base=${1:-}
  if [ -z "$base" ]; then
    base=$(git merge-base HEAD origin/main 2>/dev/null) || base=
    if [ -z "$base" ] || [ "$base" = "$(git rev-parse HEAD)" ]; then
      base=$(git rev-parse --verify --quiet HEAD~1) || { find csrc/core -name '*.cpp'; return; }
    fi
  fi
  { git diff --name-only --diff-filter=d "$base" -- csrc && git ls-files --others --exclude-standard csrc; } |
    grep -E '\.[ch]pp$' || true
}

# A source that includes the header, itself or through others.
source_of() {
  local file=$1 from
  [[ $file == *.hpp ]] || { echo "$file"; return; }
  from=$(grep -rlE --include='*.cpp' "#include \"${file#csrc/}\"" csrc | sort | head -n 1)
  [ -n "$from" ] || from=$(grep -rlE --include='*.hpp' "#include \"${file#csrc/}\"" csrc | sort | head -n 1)
  if [ -n "$from" ]; then source_of "$from"; fi  # those for CUDA alone have none
}

list=false
if [ "${1:-}" = --list ]; then list=true && shift; fi
case ${1:-} in
  --all) files=$(all_files) ;;
  --since) files=$(changed_files "$2") ;;
  '') files=$(changed_files) ;;
  *) files=$(printf '%s\n' "$@") ;;
esac
if $list; then
  printf '%s' "${files:+$files$'\n'}"
  exit 0
fi

if ! command -v clang-tidy >/dev/null; then
  echo "check_tidy: SKIPPED, no clang-tidy (pip install clang-tidy==19.1.0)"
  exit 77
fi
gcc_headers=$(${CXX:-c++} -print-file-name=include)  # for omp.h, after clang's own
python_headers=$("$python" -m pybind11 --includes | sed 's/-I/-isystem /g')
case $(uname -m) in
  x86_64) kernel_flags='-march=x86-64-v3 -DPYINIT_NS=avx2 -DPYINIT_NS_avx2' ;;
  *) kernel_flags='-DPYINIT_NS=neon -DPYINIT_NS_neon' ;;
esac
sources=$(for file in $files; do source_of "$file"; done | sort -u)
[ -n "$sources" ] || { echo "check_tidy: nothing to check"; exit 0; }
export gcc_headers python_headers kernel_flags

check() {
  # GCC's omp.h gives arguments to an attribute that has none in Clang.
  local flags="-std=c++20 -Icsrc -Wall -Wextra -idirafter $gcc_headers -D__malloc__(...)=__unused__" checks=
  case $1 in
    *.kernel.cpp) flags+=" $kernel_flags" ;;
    csrc/python/* | csrc/cuda/*)
      flags+=" $python_headers -DPYINIT_CUDA_EMULATION -DPYINIT_CUDA_MODULE=_cuda -DPYINIT_NS=cuda -DPYINIT_NS_cuda"
      checks=--checks=-clang-analyzer-*  # which would spend minutes on pybind11
      ;;
  esac
  # shellcheck disable=SC2086  # flags are words
  clang-tidy --quiet $checks "$1" -- $flags 2>/dev/null || { echo "check_tidy: $1 has findings" && return 1; }
}
export -f check
xargs -P "$(nproc)" -I{} bash -c 'set -f; check {}' <<<"$sources"
echo "check_tidy: $(wc -l <<<"$sources") sources passed in $SECONDS s"
