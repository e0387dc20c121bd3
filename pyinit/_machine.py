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
    """The answer of ``info``."""

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
    """Tell what pyinit runs on: versions, instruction sets, threads and generator of this process.

    Returns:
        A dictionary. ``patch`` is the generator of the patched ``torch.nn.init``, ``openmp_runtime`` is
        a path; either may be ``"none"``. ``torch_fallbacks`` lists what torch's own functions had to
        do although its numbers were asked for from pyinit, as far as that has been found out.

    Example:
        >>> import pyinit
        >>> info = pyinit.info()
        >>> info["isa"] in info["available_isas"], info["rng"]
        (True, 'philox')
    """
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
