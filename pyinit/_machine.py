"""What pyinit runs on."""

from importlib.metadata import version
from typing import TypedDict

import torch

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._patch import rng_in_force
from pyinit._random.rng import get_rng
from pyinit._random.torch_cases import fallbacks


class Info(TypedDict):
    """The answer of ``info``.

    ``patch`` is the generator of the patched ``torch.nn.init``, ``openmp_runtime`` a path; either
    may be ``"none"``. ``torch_fallbacks`` says what torch itself had to do although its numbers
    were asked for from pyinit, as far as that has been found out.
    """

    version: str
    isa: str
    available_isas: list[str]
    threads: int
    rng: str
    patch: str
    openmp_runtime: str
    cuda_build: str
    compiler: str
    torch: str
    torch_fallbacks: list[str]


def info() -> Info:
    """Versions, instruction sets, threads and generator that pyinit uses in this process."""
    return Info(
        version=version("pyinit"),
        isa=_core.isa(),
        available_isas=_core.available_isas(),
        threads=torch.get_num_threads(),
        rng=get_rng(),
        patch=rng_in_force() or "none",
        openmp_runtime=_core.openmp_runtime(),
        cuda_build=device_fills.BUILD,
        compiler=_core.compiler(),
        torch=torch.__version__,
        torch_fallbacks=fallbacks(),
    )
