"""What it takes several processes to initialize a model that is sharded over them: the tables of docs/scale.md.

``python tools/measure_ranks.py [ranks] [trainers] [parameters] [blocks] [--pairs 7]``; all four without names:

=============  =========================================================================================
``ranks``      two ranks with a thread each, beside one process with one thread, and beside two such
               processes that have nothing to do with each other: the most that the machine gives
``trainers``   four ranks, beside what trainers do: each fills every full tensor by torch and keeps its part
``parameters`` what a sharded parameter costs beside its elements
``blocks``     blocks of a tensor, beside as many elements that are a whole tensor
=============  =========================================================================================
"""

import argparse
import gc
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

import pyinit
from pyinit import _core
from pyinit._random.distributions import NORMAL, TRUNC_NORMAL, UNIFORM, padded
from pyinit._torch.views import view_of
from pyinit.models.llama import DecoderLayer, Llama

MIB = 2**20


class Took(NamedTuple):
    """Seconds of the clock, and of this process's processor time."""

    wall: float
    cpu: float


def took(call: Callable[[], object]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def median(values: Any) -> float:
    return statistics.median(list(values))


def touch(size: int) -> None:
    """Write so much memory and give it back: a virtual machine gets it from its host on the first write."""
    free = re.findall(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("utf-8"))
    torch.empty(min(size, int(free[0]) * 1024 // 2), dtype=torch.uint8).fill_(1)


def status(what: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    (found,) = re.findall(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    return int(found) * 1024


def on_processes(count: int, run: Callable[..., object], *arguments: object) -> list[Any]:
    """What ``run(rank, *arguments)`` gives in each of so many processes, which make a gloo group."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_rank, (count, folder, run, arguments), count)
        return [torch.load(Path(folder, str(rank)), weights_only=False) for rank in range(count)]


def _rank(rank: int, count: int, folder: str, run: Any, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    before = status("VmRSS")
    store = dist.FileStore(f"{folder}/store", count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    try:
        torch.save(run(rank, *arguments, before), f"{folder}/{rank}")
    finally:
        dist.destroy_process_group()


def plain(layers: int, dtype: torch.dtype) -> Llama:
    with torch.device("meta"):
        return Llama(layers=layers).to(dtype)


def sharded(layers: int, dtype: torch.dtype) -> Llama:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = plain(layers, dtype)
    for module in model.modules():
        if isinstance(module, DecoderLayer):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def initialize(model: nn.Module) -> Callable[[], object]:
    return lambda: pyinit.initialize_(model, "llama", seed=0)


# ---- ranks ---------------------------------------------------------------------------------------


def _ranks(rank: int, layers: int, dtype: torch.dtype, pairs: int, _: int) -> Any:
    whole = plain(layers, dtype).to_empty(device="cpu")
    whole.lm_head.weight = whole.model.embed_tokens.weight  # to_empty makes two of tied ones
    part = sharded(layers, dtype).to_empty(device="cpu")
    for model in (whole, part):
        initialize(model)()
    rows = []
    for _ in range(pairs):
        dist.barrier()
        alone = took(initialize(whole)) if rank == 0 else None
        dist.barrier()
        shard = took(initialize(part))
        dist.barrier()
        beside = took(initialize(whole))
        rows.append((alone, shard, beside))
    return rows


def measure_ranks(pairs: int) -> None:
    layers = 4
    print(
        f"\nLlama of {count(plain(layers, torch.bfloat16)):,} parameters, two ranks of a thread each"
    )
    for dtype in (torch.bfloat16, torch.float32):
        touch(10 << 30)
        first, second = on_processes(2, _ranks, layers, dtype, pairs)
        for clock, of in (("clock", 0), ("processor time", 1)):
            alone = [row[0][of] for row in first]
            slower, beside = (
                [max(a[k][of], b[k][of]) for a, b in zip(first, second, strict=True)]
                for k in (1, 2)
            )
            halves = median(2 * s / a for s, a in zip(slower, alone, strict=True))
            ceiling = median(b / a for b, a in zip(beside, alone, strict=True))
            rest = median(2 * s / b for s, b in zip(slower, beside, strict=True))
            print(
                f"{str(dtype)[6:]:<9}{clock:<15} one process {median(alone):.3f} s, the slower rank "
                f"{median(slower):.3f} s: {halves:.2f}x the half; two unrelated processes: "
                f"{ceiling:.2f}x; the rank beside half of these: {rest:.2f}x",
                flush=True,
            )


# ---- trainers ------------------------------------------------------------------------------------


def _held(model: nn.Module) -> int:
    locals_ = [p.to_local() for p in model.parameters() if isinstance(p, DTensor)]
    return sum(local.numel() * local.itemsize for local in locals_)


def _ours(_: int, layers: int, before: int) -> Any:
    model = sharded(layers, torch.bfloat16)
    dist.barrier()
    seconds = took(initialize(model.to_empty(device="cpu")))
    return seconds, status("VmHWM") - before, _held(model)


@torch.no_grad()
def _theirs(_: int, layers: int, before: int) -> Any:
    model = sharded(layers, torch.bfloat16)

    def fill() -> None:
        model.to_empty(device="cpu")
        for parameter in model.parameters():
            assert isinstance(parameter, DTensor)
            full = torch.empty(parameter.shape, dtype=parameter.dtype)
            if full.dim() == 1:
                torch.nn.init.ones_(full)
            else:
                torch.nn.init.normal_(full, 0.0, 0.02)
            part = distribute_tensor(
                full, parameter.device_mesh, parameter.placements, src_data_rank=None
            )
            parameter.to_local().copy_(part.to_local())

    dist.barrier()
    return took(fill), status("VmHWM") - before, _held(model)


def measure_trainers(pairs: int) -> None:
    layers = 16
    print(f"\nLlama of {count(plain(layers, torch.bfloat16)):,} parameters in bfloat16, four ranks")
    rows = []
    for _ in range(pairs):
        row = []
        for run in (_theirs, _ours):
            touch(6 << 30)
            row.append(on_processes(4, run, layers))
        rows.append(row)
    for name, of in (("seconds of the clock", 0), ("seconds of processor time", 1)):
        sums = [[sum(rank[0][of] for rank in side) for side in row] for row in rows]
        theirs, ours = (median(side) for side in zip(*sums, strict=True))
        ratio = median(their / our for their, our in sums)
        print(f"{name}, summed over ranks: torch {theirs:.2f}, pyinit {ours:.2f}, {ratio:.1f}x")
    for name, side in (("torch", 0), ("pyinit", 1)):
        above = [(peak, held) for row in rows for _, peak, held in row[side]]
        most = max(peak - held for peak, held in above) / MIB
        print(
            f"{name}: a rank holds {max(held for _, held in above) / MIB:.0f} MiB; its peak above the "
            f"process after its imports is that and at most {most:.0f} MiB",
            flush=True,
        )


# ---- parameters ----------------------------------------------------------------------------------


def _parameters(_: int, number: int, pairs: int, __: int) -> Any:
    models = []
    for is_sharded in (False, True):
        with torch.device("meta"):
            model = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(number)))
        if is_sharded:
            fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        models.append(model.to_empty(device="cpu"))
    for model in models:
        pyinit.initialize_(model, "kaiming", seed=0)
    gc.freeze()
    gc.disable()  # it would take most of the time, and go through the models many times
    return [
        [took(partial(pyinit.initialize_, model, "kaiming", seed=0)).cpu for model in models]
        for _ in range(pairs)
    ]


def measure_parameters(pairs: int) -> None:
    number = 10_000
    (rows,) = on_processes(1, _parameters, number, pairs)
    one, other = (median(side) / number * 1e6 for side in zip(*rows, strict=True))
    print(
        f"\n{number:,} parameters of 8 x 8, processor time of each: plain {one:.1f} us, sharded {other:.1f} us"
    )


# ---- blocks --------------------------------------------------------------------------------------

_DRAWN = {
    "uniform": (UNIFORM, (-1.0, 1.0)),
    "normal": (NORMAL, (0.0, 1.0)),
    "trunc_normal": (TRUNC_NORMAL, (0.0, 1.0, -2.0, 2.0)),
}


def _blocks(
    elements: int,
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """By name: the shape of a block, that of the whole, and where the block starts."""
    runs = {
        f"columns: runs of {run:,}": (
            (elements // run, run),
            (elements // run, 8 * run),
            (0, 3 * run),
        )
        for run in (1, 3, 8, 64, 512, 1024)
    }
    return {
        "rows": ((512, elements // 512), (4096, elements // 512), (512, 0)),
        **runs,
        "columns 3500 to 4000": ((elements // 500, 500), (elements // 500, 4000), (0, 3500)),
        "flat, from an odd index": ((elements,), (3 * elements,), (elements + 7,)),
    }


def _fill(tensor: Tensor, name: str, *place: object) -> Callable[[], object]:
    distribution, parameters = _DRAWN[name]
    key, numbers = (1, 0), padded(parameters)
    fills = [(view_of(tensor), distribution.code, numbers, key, *(place or (None, None)))]
    return lambda: _core.fill_many(fills, 1)  # type: ignore[arg-type]


def measure_blocks(pairs: int) -> None:
    elements = 1 << 20
    print(f"\n{elements:,} elements on one thread: a block's time beside a whole tensor's")
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    print(" " * 33 + "".join(f"{str(dtype)[6:]:>10}" for dtype in dtypes))
    for name in _DRAWN:
        for label, (shape, whole, start) in _blocks(elements).items():
            ratios = []
            for dtype in dtypes:
                dense, block = torch.empty(elements, dtype=dtype), torch.empty(shape, dtype=dtype)
                calls = _fill(block, name, whole, start), _fill(dense, name)
                for call in calls:
                    call()
                per = elements / block.numel()
                rows = [[took(call).wall for call in calls] for _ in range(pairs)]
                ratios.append(per * median(a / b for a, b in rows))
            print(f"{name:<13}{label:<24}" + "".join(f"{r:>9.2f}x" for r in ratios), flush=True)


MEASURES = {
    "ranks": measure_ranks,
    "trainers": measure_trainers,
    "parameters": measure_parameters,
    "blocks": measure_blocks,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("measures", nargs="*", metavar="|".join(MEASURES))
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, {pyinit.info()['isa']}, {os.cpu_count()} processors, "
        f"load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    for measure in options.measures or MEASURES:
        MEASURES[measure](options.pairs)
