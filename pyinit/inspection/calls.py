"""One call of a layer, as it is visited."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pyinit.inspection.batches import named_tensors
from pyinit.inspection.layers import Layer


class Call:
    """One call of a layer. Inputs and output are there as long as it is visited.

    layer: the layer; its name, module, kind and parameters are attributes of the call, too
    number: 1 for the first call of the layer, 2 for the second
    """

    def __init__(self, layer: Layer, number: int) -> None:
        self.layer, self.number = layer, number
        self._values: Values | None = None

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def module(self) -> nn.Module:
        return self.layer.module

    @property
    def kind(self) -> str:
        return self.layer.kind

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Those that the layer uses itself, by their qualified names."""
        return self.layer.parameters

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The positional arguments."""
        return self._now.args

    @property
    def keywords(self) -> Mapping[str, Any]:
        """The arguments given by name."""
        return self._now.kwargs

    @property
    def output(self) -> Any:
        """What the layer has returned, after all hooks of its module."""
        return self._now.output

    @property
    def tensor(self) -> Tensor | None:
        """The first tensor of floating-point numbers in the output."""
        return first_floating(self._now.output)

    def again(self) -> Any:
        """Compute this layer again, with its parameters as they are now; the pass goes on from the
        new output, which is returned.

        Nothing else is computed. The layer starts from the state that it started from before: its
        buffers, the generators, its inputs where it writes to them.
        """
        now = self._now
        now.output = None  # its memory is free for the new one
        now.output = now.run_again()
        return now.output

    @property
    def _now(self) -> "Values":
        if self._values is None:
            raise RuntimeError(
                f"the visit of {self} is over: its inputs and output are not kept, take from them "
                "what is needed while it is visited"
            )
        return self._values

    def __repr__(self) -> str:
        return f"Call({self.name!r}, {self.kind}, number={self.number})"


@dataclass
class Values:
    """What a call has while it is visited."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any
    run_again: Callable[[], Any]


def first_floating(value: Any) -> Tensor | None:
    """The first tensor of floating-point numbers in what a module returns."""
    tensors = (tensor for _, tensor in named_tensors(value))
    return next((tensor for tensor in tensors if tensor.is_floating_point()), None)
