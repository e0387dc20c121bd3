#!/usr/bin/env bash
# Compiles every CUDA kernel for each architecture of cmake/cuda_architectures.cmake that nvcc knows, with warnings as
# errors, and prints the registers and spilled bytes of each. Fails if a fill spills.
# Exit status 77: there is no nvcc, nothing was checked.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in nvcc c++filt; do
  if ! command -v "$tool" >/dev/null; then
    echo "check_cuda: SKIPPED, no $tool"
    exit 77
  fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

known=$(nvcc --list-gpu-code)
architectures=()
for architecture in $(sed -n 's/^set(PYINIT_ALL_CUDA_ARCHITECTURES \(.*\))/\1/p' cmake/cuda_architectures.cmake); do
  if grep -qx "sm_$architecture" <<<"$known"; then architectures+=("$architecture"); fi
done
nvcc --version | grep release
echo "architectures: ${architectures[*]}"

# A log of its own for each, so that what compiles at the same time does not mix.
compile() {
  local source=$1 architecture=$2 name
  name=$3/$(basename "$source" .cu).$architecture
  nvcc -std=c++20 -O3 --expt-relaxed-constexpr -Werror=all-warnings -Xptxas=-v -DPYINIT_NS=cuda -DPYINIT_NS_cuda \
    -Icsrc -arch="sm_$architecture" -cubin "$source" -o "$name.cubin" >"$name.log" 2>&1 ||
    { cat "$name.log"; return 1; }
}
export -f compile
for source in csrc/cuda/*.cu; do
  for architecture in "${architectures[@]}"; do printf '%s %s %s\0' "$source" "$architecture" "$work"; done
done | xargs -0 -P "$(nproc)" -I{} bash -c 'set -e; compile {}'

# Lines "architecture registers spilled-bytes kernel", of which the table is made.
cat "$work"/*.log | c++filt -t | awk '
  /Compiling entry function/ {
    split($0, part, "\047"); kernel = part[2]; architecture = part[4]; sub("sm_", "", architecture)
  }
  /bytes spill stores/ { spilled = $5 + $9 }
  / Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
    print architecture, registers, spilled, kernel
  }' >"$work/figures"
sed -E -e 's/ void / /; s/pyinit:://g; s/cuda:://g; s/\(anonymous namespace\):://g; s/\(.*//' \
  -e 's/Kernel<(float|double)> >/Kernel>/; s/unsigned short/uint16/; s/unsigned int/uint32/; s/unsigned long/uint64/' \
  -i "$work/figures"

awk -v architectures="${architectures[*]}" '
  function cell(text) { printf "  %8s", text }
  {
    name = $0; sub(/^[0-9]+ [0-9]+ [0-9]+ /, "", name)
    figures[name, $1] = $2 "/" $3
    if (!(name in seen)) { seen[name]; order[++count] = name }
    if ($3 > 0) { spilling++; if (name ~ /^fill</) fills++ }
  }
  END {
    n = split(architectures, each, " ")
    printf "%-36s", "registers/spilled bytes"
    for (i = 1; i <= n; i++) cell("sm_" each[i])
    print ""
    for (k = 1; k <= count; k++) {
      printf "%-36s", order[k]
      for (i = 1; i <= n; i++) cell(figures[order[k], each[i]])
      print ""
    }
    printf "%d kernels for %d architectures; %d spill, %d of them fills\n", count, n, spilling, fills
    exit (count == 0 || NR != count * n || fills > 0)
  }' "$work/figures"
echo "check_cuda: passed in $SECONDS s"
