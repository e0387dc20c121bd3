"""Fast, reproducible weight initialization for PyTorch."""

from importlib.metadata import version

# torch comes first: it brings the OpenMP runtime that the extension shares.
import torch  # noqa: F401

from pyinit import fill, functional, init, nn
from pyinit._machine import info
from pyinit._patch import patch, unpatch
from pyinit._rng import get_rng, rng, set_rng
from pyinit.init import (
    calculate_gain,
    constant,
    constant_,
    delta_orthogonal_,
    dirac,
    dirac_,
    eye,
    eye_,
    hadamard_,
    kaiming_normal,
    kaiming_normal_,
    kaiming_uniform,
    kaiming_uniform_,
    lecun_normal_,
    lecun_uniform_,
    normal,
    normal_,
    ones_,
    orthogonal,
    orthogonal_,
    orthogonal_many_,
    sparse,
    sparse_,
    trunc_normal_,
    uniform,
    uniform_,
    variance_scaling_,
    xavier_normal,
    xavier_normal_,
    xavier_uniform,
    xavier_uniform_,
    zeros_,
)

__version__ = version("pyinit")

__all__ = [
    "__version__",
    "calculate_gain",
    "constant",
    "constant_",
    "delta_orthogonal_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "fill",
    "functional",
    "get_rng",
    "hadamard_",
    "info",
    "init",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "nn",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "orthogonal_many_",
    "patch",
    "rng",
    "set_rng",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "unpatch",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
