"""How many times as fast pyinit fills what NumPy and Keras fill: medians of the ratios of neighbouring calls.

Run it with Keras on torch's backend: ``KERAS_BACKEND=torch python tools/measure_arrays.py [--pairs 15] [--threads 2]``
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch

import pyinit

os.environ.setdefault("KERAS_BACKEND", "torch")

Call = Callable[[], object]


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(name: str, theirs: Call, ours: Call, pairs: int) -> None:
    """Call the two in turn, and print the median of the ratios and the least time of each."""
    theirs(), ours()
    times = [(seconds(theirs), seconds(ours)) for _ in range(pairs)]
    ratio = statistics.median(their / our for their, our in times)
    their, our = (min(side) * 1e3 for side in zip(*times, strict=True))
    print(f"{name:<44} {ratio:6.1f}x   least {their:7.1f} ms and {our:6.1f} ms", flush=True)


def measure_numpy(pairs: int) -> None:
    numbers, used, count = np.random.default_rng(0), np.zeros(2**24, np.float32), 2**24
    compare(
        "beside a ceiling: numpy.ndarray.fill",
        lambda: used.fill(0),
        lambda: pyinit.normal_(used),
        pairs,
    )
    compare(
        "normal_ 2^24 float32, memory in use",
        lambda: numbers.standard_normal(out=used, dtype=np.float32),
        lambda: pyinit.normal_(used),
        pairs,
    )
    compare(
        "normal_ 2^24 float32, fresh memory",
        lambda: numbers.standard_normal(count, np.float32),
        lambda: pyinit.normal_(np.empty(count, np.float32)),
        pairs,
    )
    backwards = used[::-1]
    compare(
        "normal_ 2^24 float32, backwards, beside forwards",
        lambda: pyinit.normal_(used),
        lambda: pyinit.normal_(backwards),
        pairs,
    )


def measure_keras(pairs: int) -> None:
    import keras  # noqa: PLC0415

    ours, theirs = pyinit.keras.HeUniform(seed=0), keras.initializers.HeUniform(seed=0)
    shape = (4096, 4096)

    def build(initializer: object) -> Call:
        return lambda: keras.layers.Dense(4096, kernel_initializer=initializer).build((None, 4096))

    compare(
        "HeUniform, Dense 4096x4096: the call", lambda: theirs(shape), lambda: ours(shape), pairs
    )
    compare("HeUniform, Dense 4096x4096: Dense.build", build(theirs), build(ours), pairs)


def measure_small(pairs: int) -> None:
    """What it costs a small tensor that arrays are taken, too."""
    tensor, inside = torch.empty(16), pyinit.normal_.__wrapped__

    def often(function: Callable[[torch.Tensor], object]) -> Call:
        return lambda: [function(tensor) for _ in range(2000)]

    compare("normal_ of 16, 2000 times: with, without", often(pyinit.normal_), often(inside), pairs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    measure_small(options.pairs)
    measure_numpy(options.pairs)
    if find_spec("keras"):
        measure_keras(options.pairs)
