"""The norms of the Jacobians of layers, by one backward pass from a random direction."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pyinit.inspection.batches import Batch, named_tensors
from pyinit.inspection.calls import Call
from pyinit.inspection.layers import WITH_ACTIVATIONS
from pyinit.inspection.rows import Backward, Look
from pyinit.inspection.statistics import describe
from pyinit.inspection.walk import walk


def with_jacobians(look: Look, model: nn.Module, batch: Batch, layers: Any) -> Look:
    """Add to calls with weights the squared norm of the Jacobian from there to the next such call.

    With a random v of unit variance, the squared norm of J^T v is that of the Jacobian J from a call to the
    output, on average over v (Hutchinson 1990). The quotient for two calls in a row is the partial
    Jacobian norm between them in a wide chain (Doshi et al. 2021).
    """
    squares: dict[tuple[str, int], float] = {}

    def visit(call: Call, gradient: Tensor) -> None:
        found = describe(gradient)
        squares[call.name, call.number] = found.count * found.mean_square

    def along(output: Any, _: Any = None) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        floating = (each for _, each in named_tensors(output) if each.is_floating_point())
        outputs = [each for each in floating if each.requires_grad]
        return sum(
            (
                (each * torch.randn(each.shape, generator=generator).to(each)).sum()
                for each in outputs
            ),
            torch.zeros(()),
        )

    # The rows are those of the look, so the layers must be, too.
    chosen = WITH_ACTIVATIONS if layers is None else layers
    source = batch.kwargs or batch.args
    walk(
        model,
        source,
        target=batch.target,
        layers=chosen,
        loss=along,
        visit_gradient=visit,
        reads_only=True,
    )
    rows = list(look.with_weights())
    found = {}
    for row, after in pairwise(rows):
        here, there = (squares.get((each.name, each.call), 0.0) for each in (row, after))
        if there > 0:
            found[id(row)] = here / there
    return look._replace(
        rows=tuple(
            replace(row, backward=replace(row.backward or Backward(), jacobian=found[id(row)]))
            if id(row) in found
            else row
            for row in look.rows
        )
    )
