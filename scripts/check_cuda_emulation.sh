#!/usr/bin/env bash
# Runs the CUDA kernels, compiled for the CPU, in blocks of the usual size, under the address and undefined-behaviour sanitizers.
# Takes the Python that has pyinit and its test requirements: $PYTHON, or python.
# Exit status 77: a tool is missing, nothing was checked.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python}
compiler=${CXX:-c++}

skip() {
  echo "check_cuda_emulation: SKIPPED, $*"
  exit 77
}
for tool in "$python" "$compiler"; do
  command -v "$tool" >/dev/null || skip "no $tool"
done
# The library comes before Python's; C++'s with it, for exceptions to be seen.
preload=
for library in libasan.so libubsan.so libstdc++.so; do
  path=$("$compiler" -print-file-name="$library")
  [ -e "$path" ] || skip "no $library of $compiler"
  preload+="$(realpath "$path") "
done

# From the tests' folder: at the root Python would find the package's sources, without its extension.
cd tests
# Python itself keeps memory to its end. Without capture (-s): what a sanitizer says before it ends the process.
ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 LD_PRELOAD=$preload \
  PYINIT_EMULATION_FLAGS="-g -fsanitize=address,undefined -fno-sanitize-recover=all" \
  "$python" -m pytest -q -s -p no:cacheprovider device/test_cuda_emulation.py -k "not single and not 96 and not 256"
echo "check_cuda_emulation: passed"
