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
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> x, weight = torch.randn(1, 3, 9, 9), torch.randn(8, 3, 3, 3)
        >>> convolve = lambda x, weight: pyinit.functional.conv2d(x, weight)
        >>> graph = make_fx(convolve, pyinit.nn.decompositions())(x, weight).graph
        >>> [str(node.target) for node in graph.nodes if node.op == "call_function"]
        ['aten.convolution.default']
    """
    table = torch.export.default_decompositions()
    table.update(decomposed_operators())  # type: ignore[no-untyped-call]  # torch's has no types
    return table
