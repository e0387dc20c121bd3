"""Compare the CUDA kernels with the CPU's, bit for bit, and print the matrix.

    python scripts/cuda_equality.py            the kernels compiled for the CPU, without a GPU
    python scripts/cuda_equality.py cuda       those of pyinit._cuda, on the current GPU

A cell says how many cases there were, and how many of them had other bits than the CPU's anywhere
in the memory, what lies around the elements included. Exits with status 1 if any had.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from cuda_cases import Case, all_cases
from cuda_emulation import build


def load(device: str) -> ModuleType:
    if device == "cpu":
        with tempfile.TemporaryDirectory() as folder:
            return build(Path(folder))
    from pyinit import _cuda  # noqa: PLC0415  not in every build

    return _cuda


def matrix(cases: Counter[tuple[str, ...]], mismatches: Counter[tuple[str, ...]]) -> Table:
    table = Table("kernel", "layout", title="Cases, and those with other bits than the CPU's")
    dtypes = list(dict.fromkeys(dtype for _, _, dtype in cases))
    for dtype in dtypes:
        table.add_column(dtype, justify="right")
    for kernel, layout in dict.fromkeys((kernel, layout) for kernel, layout, _ in cases):
        places = [(kernel, layout, dtype) for dtype in dtypes]
        cells = [f"{cases[p]} {mismatches[p]}" if p in cases else "" for p in places]
        table.add_row(kernel, layout, *cells)
    return table


def main(device: str) -> int:
    module = load(device)
    cases: Counter[tuple[str, ...]] = Counter()
    mismatches: Counter[tuple[str, ...]] = Counter()
    wrong: list[Case] = []
    begin = time.perf_counter()
    for case in all_cases():
        place = case.kernel, case.layout, case.dtype
        cases[place] += 1
        if not case.matches(module, device):
            mismatches[place] += 1
            wrong.append(case)
    console = Console(width=140)
    console.print(matrix(cases, mismatches))
    for case in wrong[:20]:
        console.print(f"{case.kernel}, {case.dtype}: {case.detail}", markup=False)
    seconds = time.perf_counter() - begin
    console.print(
        f"{module.BUILD}: {cases.total()} cases, {mismatches.total()} mismatches, {seconds:.1f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "cpu"))
