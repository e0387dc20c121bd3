"""LSUV: layer by layer, weights divided by the standard deviation of the outputs that they give."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from pyinit._torch.eager import eager
from pyinit.data_driven.affine import Affine
from pyinit.data_driven.engine import Base, working
from pyinit.data_driven.over_ranks import spread
from pyinit.data_driven.pictures import FACTOR, About
from pyinit.data_driven.results import Measured, MethodReport
from pyinit.inspection.walk import Call
from pyinit.whole_model.methods import register_method


@dataclass(frozen=True)
class LsuvLayer(Measured):
    """What ``lsuv_`` measured of one layer.

    Args:
        name: the layer's name
        before: the standard deviation of its output with the weights that it began with
        after: that with its weights now
        scale: what the weights were multiplied by
        steps: how often they were set
    """

    about: ClassVar[Mapping[str, About]] = {
        "": About("standard deviation of the output", 1.0),
        "scale": FACTOR,
    }

    before: float
    after: float
    scale: float
    steps: int


@dataclass(frozen=True)
class LsuvReport(MethodReport[LsuvLayer]):
    """What ``lsuv_`` did: a row for each layer, in the order of execution.

    Args:
        init: what ``replay_`` needs
        layers: the rows
        left: pairs of the name of a layer that stays as it was, and why
        largest_deviation: the greatest distance of a layer's standard deviation from 1

    Example:
        >>> import torch, pyinit
        >>> x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.lsuv_(torch.nn.Linear(64, 32, bias=False), x, base="kaiming", seed=0)
        >>> print(report[0])
        (model): before 1.437, after 1, scale 0.696, steps 1
        >>> report.largest_deviation < 1e-6
        True
        >>> pyinit.LsuvReport.from_dict(report.to_dict()) == report
        True
    """

    row: ClassVar[type[Measured]] = LsuvLayer

    largest_deviation: float = 0.0


@eager
@register_method("lsuv", source="Mishkin & Matas 2016")
def lsuv_(
    model: nn.Module,
    data: Any,
    *,
    base: Base = "orthogonal",
    tolerance: float = 0.01,
    iterations: int = 10,
    seed: int | None = None,
    layers: Any = None,
    verbose: bool = False,
) -> LsuvReport:
    """Scale each layer's weights, in the order of execution, until its output has variance 1.

    Weights begin orthogonal. One pass runs through the model; at each layer the weight is divided by the
    standard deviation of the layer's output over all of its elements, until that is within the tolerance
    of 1, and the pass goes on from the new output. Biases are not touched. The query, key and value of
    ``nn.MultiheadAttention``, and the gates of recurrent layers (by what the inputs contribute to them),
    are scaled one by one. A layer whose output has no variance, or does not follow its weight, keeps its
    base, and the report says so.

    Whatever is raised, ``KeyboardInterrupt`` included, the model is afterwards as it was before.

    Args:
        model: the model
        data: a batch, as ``pyinit.inspect`` takes it
        base: what the weights begin with: a recipe, such as ``"delta_orthogonal"``, or None for the
            weights as they are
        tolerance: how far from 1 a standard deviation may be
        iterations: how often a weight may be set; without a bias once is enough
        seed: the seed of the base, and of what the model draws when it runs
        layers: which layers to initialize and scale, as ``only=`` of ``initialize_`` says it; names of
            modules will do, too
        verbose: print a line for each layer

    Returns:
        The report, which ``replay_`` takes.

    Raises:
        TypeError, ValueError: for arguments that are none of these, a batch that ends early or has NaN,
            and models without a layer that may be scaled.
        RuntimeError: where the model fails, naming the layer.

    References:
        Mishkin & Matas 2016, "All you need is a good init", arXiv:1511.06422.

    Example:
        >>> import torch, pyinit
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        >>> x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
        >>> report = pyinit.lsuv_(model, x, seed=0)
        >>> for row in report:
        ...     print(row.name, f"{row.before:.2f} -> {row.after:.2f}")
        0 1.01 -> 1.01
        2 0.63 -> 1.00
        >>> again = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
        >>> _ = pyinit.replay_(again, report)
        >>> torch.equal(again[2].weight, model[2].weight)
        True
    """
    if not (isinstance(tolerance, (int, float)) and 0 <= tolerance < math.inf):
        raise ValueError(f"tolerance must be a number of at least 0, got {tolerance!r}")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"iterations must be a whole number of at least 1, got {iterations!r}")
    options = {"tolerance": tolerance, "iterations": iterations}
    found: list[LsuvLayer] = []
    with working(
        "lsuv",
        options,
        model,
        data,
        over_ranks=True,
        base=base,
        seed=seed,
        layers=layers,
        verbose=verbose,
    ) as work:

        def visit(call: Call) -> None:
            for affine in work.affines(call):
                row = _settled(affine, tolerance, iterations)
                if isinstance(row, str):
                    work.leave(affine.name, row)
                    work.say(f"{affine.name}: left as it was: {row}")
                else:
                    found.append(row)
                    work.say(row)

        work.walk(visit)
        work.refuse_idle()
        return LsuvReport(
            work.report(),
            tuple(found),
            tuple(work.left.items()),
            max((abs(row.after - 1) for row in found), default=0.0),
        )


def _settled(affine: Affine, tolerance: float, iterations: int) -> LsuvLayer | str:
    """Scale a layer's weight. What was measured; or why it has its base, in words."""
    std, size = spread(affine.ranks, affine.name, affine.output)
    before = std
    if not math.isfinite(before):
        return "its output is not finite"
    if before <= torch.finfo(affine.output.dtype).eps * size:
        return "its output has no variance"
    scale, steps = 1.0, 0
    while not abs(std - 1) <= tolerance and steps < iterations:
        scale = scale / std if std else math.inf
        if not (math.isfinite(scale) and scale > 0):
            break
        affine.weight.set_(scale=scale)
        std, _ = spread(affine.ranks, affine.name, affine.again())
        steps += 1
    if abs(std - 1) <= tolerance:
        return LsuvLayer(affine.name, before, std, scale, steps)
    affine.weight.set_()
    return (
        f"its output has the standard deviation {before:.4g}, and {std:.4g} after {steps} steps, "
        f"not within {tolerance:g} of 1: it does not follow the weight closely enough"
    )
