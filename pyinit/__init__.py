"""Fast, reproducible weight initialization for PyTorch.

Example:
    >>> import torch, pyinit
    >>> layer = torch.nn.Linear(256, 128)
    >>> _ = torch.manual_seed(0)  # governs pyinit, too
    >>> weight = pyinit.kaiming_normal_(layer.weight, nonlinearity="relu")
    >>> for row in pyinit.initialize_(layer, "gpt2", seed=0):  # a whole model
    ...     print(row.name, row.initializer)
    weight normal(std=0.02)
    bias constant(val=0)
"""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

# An interrupt while the rest is imported is to be told in a line.
from pyinit import _command  # noqa: F401

# isort: split
# This comes next: it loads torch, which brings the OpenMP runtime that the extension shares.
from pyinit import _requirements  # noqa: F401

# isort: split
from pyinit import fill, functional, init, initializers, nn
from pyinit._machine import info
from pyinit._patch import patch, unpatch
from pyinit._random.rng import get_rng, rng, set_rng
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
from pyinit.pretrained.load import load_pretrained_
from pyinit.reports.initialization import InitReport
from pyinit.reports.loading import LoadReport
from pyinit.whole_model.initialize import initialize_
from pyinit.whole_model.methods import (
    Method,
    method,
    methods,
    register_method,
    register_package,
)
from pyinit.whole_model.recipes import Choice, Recipe, recipe, recipes, register_recipe
from pyinit.whole_model.replay import replay_
from pyinit.whole_model.rules import Rule

if TYPE_CHECKING:
    from pyinit import jax, keras  # noqa: F401
    from pyinit.data_driven import (
        AutoInitReport,
        ConsistencyReport,
        DataDependentReport,
        GradInitReport,
        LsuvReport,
        MetaInitReport,
        SearchReport,
        UnsupervisedReport,
        WeightNormReport,
        WhiteningReport,
        autoinit_,
        consistency_aware_,
        data_dependent_,
        distances,
        gradinit_,
        lsuv_,
        metainit_,
        pretrain_unsupervised_,
        search_recipe,
        weight_norm_init_,
        whitening_,
    )
    from pyinit.distributed.keyed import keyed
    from pyinit.inspection import theory
    from pyinit.inspection.check import assert_initialized, check
    from pyinit.inspection.findings import Finding, Findings
    from pyinit.inspection.inspect import inspect
    from pyinit.inspection.monitor import Monitor
    from pyinit.inspection.results import Inspection
    from pyinit.studies import Study, StudyResult

__version__ = version("pyinit")
"""The version of pyinit, as it is installed."""

__all__ = [
    "AutoInitReport",
    "Choice",
    "ConsistencyReport",
    "DataDependentReport",
    "Finding",
    "Findings",
    "GradInitReport",
    "InitReport",
    "Inspection",
    "LoadReport",
    "LsuvReport",
    "MetaInitReport",
    "Method",
    "Monitor",
    "Recipe",
    "Rule",
    "SearchReport",
    "Study",
    "StudyResult",
    "UnsupervisedReport",
    "WeightNormReport",
    "WhiteningReport",
    "__version__",
    "assert_initialized",
    "autoinit_",
    "calculate_gain",
    "check",
    "consistency_aware_",
    "constant",
    "constant_",
    "data_dependent_",
    "delta_orthogonal_",
    "dirac",
    "dirac_",
    "distances",
    "eye",
    "eye_",
    "fill",
    "functional",
    "get_rng",
    "gradinit_",
    "hadamard_",
    "info",
    "init",
    "initialize_",
    "initializers",
    "inspect",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "keyed",
    "lecun_normal_",
    "lecun_uniform_",
    "load_pretrained_",
    "lsuv_",
    "metainit_",
    "method",
    "methods",
    "nn",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "orthogonal_many_",
    "patch",
    "pretrain_unsupervised_",
    "recipe",
    "recipes",
    "register_method",
    "register_recipe",
    "replay_",
    "rng",
    "search_recipe",
    "set_rng",
    "sparse",
    "sparse_",
    "theory",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "unpatch",
    "variance_scaling_",
    "weight_norm_init_",
    "whitening_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]

# Names that are looked up when they are first asked for, and the modules that have them, since a program that
# initializes weights needs none of these.
_LATER = {
    **dict.fromkeys(
        (
            "AutoInitReport",
            "ConsistencyReport",
            "DataDependentReport",
            "GradInitReport",
            "LsuvReport",
            "MetaInitReport",
            "SearchReport",
            "UnsupervisedReport",
            "WeightNormReport",
            "WhiteningReport",
            "autoinit_",
            "consistency_aware_",
            "data_dependent_",
            "gradinit_",
            "lsuv_",
            "metainit_",
            "pretrain_unsupervised_",
            "search_recipe",
            "weight_norm_init_",
            "whitening_",
        ),
        "pyinit.data_driven",
    ),
    **dict.fromkeys(("assert_initialized", "check"), "pyinit.inspection.check"),
    **dict.fromkeys(("Finding", "Findings"), "pyinit.inspection.findings"),
    **dict.fromkeys(("Study", "StudyResult"), "pyinit.studies"),
    "Inspection": "pyinit.inspection.results",
    "Monitor": "pyinit.inspection.monitor",
    "distances": "pyinit.data_driven.distances",
    "inspect": "pyinit.inspection.inspect",
    "keyed": "pyinit.distributed.keyed",
    "theory": "pyinit.inspection.theory",
}

# Modules that need a library which pyinit does not, and so are no part of ``import *``.
_OF_LIBRARIES = ("jax", "keras")

register_package("pyinit.data_driven")


def _publish(value: Any) -> None:
    """A function or class is pickled by the name that it has here, or in pyinit.init if it is from there."""
    if hasattr(value, "__qualname__"):
        value.__module__ = __name__


if not TYPE_CHECKING:  # to whom it would say that there is any name

    def __getattr__(name: str) -> Any:
        if name in _OF_LIBRARIES:
            return import_module(f"{__name__}.{name}")
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(_LATER[name])
        value = getattr(module, name, module)  # of a module's name the module itself
        _publish(value)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, and the package's own modules among what is imported here."""
    own = {name for name in globals() if f"{__name__}.{name}" in sys.modules and name[0] != "_"}
    return sorted({*__all__, *own, *(name for name in globals() if name.startswith("__"))})


for _name in {*__all__} - {*init.__all__, *_LATER}:
    _publish(globals()[_name])

# What earlier versions pickled is found in these modules, whose code has another place now.
for _earlier, _now in {
    "_activations": "functional",
    "_columns": "functional",
    "_gain": "init",
    "_packed_weight": "functional",
    "_rng": "_random.rng",
    "whole_model.load_report": "reports.loading",
    "whole_model.patterns": "whole_model.rules.patterns",
    "whole_model.pretrained": "pretrained.load",
    "whole_model.report": "reports.initialization",
    "whole_model.rule": "whole_model.rules.rule",
}.items():
    sys.modules[f"pyinit.{_earlier}"] = sys.modules[f"pyinit.{_now}"]
