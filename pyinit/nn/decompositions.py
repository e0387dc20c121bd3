"""What exporters make of pyinit's convolutions."""

from collections.abc import Callable
from typing import Any

import torch

from pyinit._functional.operators import decomposed_operators


def decompositions() -> dict[Any, Callable[..., Any]]:
    """A table for ``run_decompositions``, which makes an exported program one of torch's operators alone.

    It is ``torch.export.default_decompositions()``, and ``aten.convolution`` for the operators that
    ``torch.export`` records of pyinit's convolutions. ``torch.onnx.export`` needs no table.

    Returns:
        A table that may be changed.

    References:
        docs/convolution.md, "Compilers, exporters and transforms".

    Example:
        >>> import torch, pyinit
        >>> model = pyinit.nn.Conv2d(3, 8, 3, bias=False, activation="relu")
        >>> program = torch.export.export(model, (torch.randn(1, 3, 9, 9),))
        >>> program = program.run_decompositions(pyinit.nn.decompositions())
        >>> [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        ['aten.convolution.default', 'aten.relu.default']
    """
    table = torch.export.default_decompositions()
    table.update(decomposed_operators())
    return table
