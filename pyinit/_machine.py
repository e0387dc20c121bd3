"""What pyinit runs on: versions, instruction sets, threads and the generator in use."""

from importlib.metadata import version
from typing import TypedDict

import torch

from pyinit import _core
from pyinit._device import fills as device_fills
from pyinit._patch import rng_in_force
from pyinit._random.rng import get_rng
from pyinit._random.torch_cases import fallbacks


class Info(TypedDict):
    """The dictionary that ``info`` returns.

    version: pyinit's version
    isa: the instruction set whose kernels are in use
    available_isas: all instruction sets that this machine and this build have
    threads: the number of threads that a large fill takes
    rng: the generator in use, ``"philox"``, ``"torch"`` or ``"torch.func"``
    patch: the generator of the patched ``torch.nn.init``, or ``"none"``
    openmp_runtime: the path of the OpenMP library in use, or ``"none"``
    cuda_build: the toolkit and architectures of the CUDA kernels, or ``"none"``
    compiler: the compiler that built the kernels
    torch: torch's version
    torch_fallbacks: what torch itself did although its numbers were asked for from pyinit, as far
        as calls have shown it
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
    """Tell what pyinit uses in this process: versions, instruction sets, threads, generator.

    Returns:
        A dictionary of strings, lists of strings and one int (``threads``), fit for JSON. Its keys
        are the fields of ``Info``.

    Example:
        >>> import pyinit
        >>> with pyinit.rng("torch"):
        ...     machine = pyinit.info()
        >>> machine["rng"]
        'torch'
        >>> machine["isa"] in machine["available_isas"]
        True
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
