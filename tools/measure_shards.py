"""Measures ``pyinit init --shards`` beside what it cannot be faster than.

    python tools/measure_shards.py --gigabytes 4 --folder /data/scratch

In turns, five times: as many bytes written one after the other to one file and brought to the disk; as
many filled with normal numbers and hashed, tile by tile; and the shards of a Llama in bfloat16. The
shards are compared with the slower of the other two of the same turn. The peak memory is that of a new
process, above what it has after its imports.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from pyinit import fill
from pyinit.distributed.plan import Plan, plan_shards
from pyinit.distributed.shards import write_shards
from pyinit.models import build

TILE = 4 << 20
WIDTH, HIDDEN = 2048, 8192
LAYER = 2 * (WIDTH * WIDTH * 5 // 2 + 3 * WIDTH * HIDDEN)  # bytes, nearly

CHILD = """
import resource, sys
from pathlib import Path
from tools_measure_shards import planned, write_shards
before = int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1])
write_shards(planned(float(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def planned(gigabytes: float, shards: int) -> Plan:
    layers = max(1, round((gigabytes * 1e9 - 2 * 128256 * WIDTH) / LAYER))
    with torch.device("meta"):
        model = build("llama-1b", torch.bfloat16, layers=layers)
    return plan_shards(model, "llama", 0, shards, "llama-1b")


def written(path: Path, size: int) -> None:
    tile = torch.empty(TILE, dtype=torch.uint8).fill_(1).numpy().data
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, TILE):
            file.write(tile[: min(TILE, size - start)])
        os.fsync(file.fileno())


def filled_and_hashed(size: int) -> None:
    tile = torch.empty(TILE // 2, dtype=torch.bfloat16)
    digest = hashlib.sha256()
    for start in range(0, size // 2, len(tile)):
        fill.normal(tile, 0.0, 0.02, key=0, whole=(size,), start=(start,))
        digest.update(tile.view(torch.uint8).numpy().data)


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    plan = planned(given.gigabytes, given.shards)
    size = plan.manifest.total_size
    shard = max(sum(item.size for item in items) for items in plan.manifest.by_file.values())
    plain, folder = given.folder / "measured.bin", given.folder / "measured_shards"
    print(f"{size / 1e9:.2f} GB, {given.shards} shards of up to {shard / 2**20:.0f} MiB")
    print(f"{torch.get_num_threads()} threads\nwrite    fill+hash  shards   ratio   (GB/s)")
    ratios = []
    try:
        for _ in range(given.pairs):
            by = seconds(lambda: written(plain, size)), seconds(lambda: filled_and_hashed(size))
            plain.unlink()
            ours = seconds(lambda: write_shards(plan, folder))
            shutil.rmtree(folder)
            ratios.append(max(by) / ours)
            rates = [size / each / 1e9 for each in (*by, ours)]
            print("".join(f"{rate:<9.2f}" for rate in rates), f"{ratios[-1]:.2f}x", flush=True)
        print(f"median ratio {median(ratios):.2f}x")
        code = CHILD.replace("tools_measure_shards", Path(__file__).stem)
        arguments = [str(given.gigabytes), str(given.shards), str(folder)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        }
        run = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        print(
            f"peak memory {float(run.stdout):.0f} MiB, {float(run.stdout) * 2**20 / shard:.2f} shards"
        )
    finally:
        plain.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
