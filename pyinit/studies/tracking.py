"""What is recorded of layers while a model is trained, and when."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from pyinit.inspection.layers import Layer
from pyinit.inspection.monitor import Monitor
from pyinit.inspection.monitor.activations import first_measurable
from pyinit.inspection.monitor.layers import layers_of
from pyinit.inspection.saturation import NOWHERE, bounds_of
from pyinit.inspection.statistics import describe

_MEASURED = ("mean", "variance", "total_variance", "gradient_norm", "update_ratio", "dead")
MEASURED = (*_MEASURED, "saturated")
_APART = 100  # steps


class NoTracker:
    """Records nothing."""

    rows: Sequence[dict[str, Any]] = ()

    @contextmanager
    def around(self, *_: Any) -> Iterator[None]:
        """Do nothing around a step."""
        yield


class Tracker:
    """Records layers at the steps 0, 1, 10, 100, ..., at the last, and at the last step of each epoch, if
    that is at least 100 steps after the one before: to record a step takes the time of several.

    A ``Monitor`` measures, which does not change the bits of training. There are hooks at these steps
    alone.

    Attributes:
        rows: of each recorded step and layer, in the order of execution, what was measured
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        self._model = model
        self._last, self._recorded = steps - 1, 0
        self._layers = layers_of(model, None)
        self.rows: list[dict[str, Any]] = []

    @contextmanager
    def around(self, step: int, ends_epoch: bool, optimizer: Optimizer) -> Iterator[None]:
        """Record a step, if it is one of those, which is made inside."""
        is_late = ends_epoch and step - self._recorded >= _APART
        if not (is_late or step == self._last or is_recorded(step)):
            yield
            return
        self._recorded = step
        order: dict[str, float | None] = {}
        handles = [
            layer.module.register_forward_hook(_saturation(layer, order)) for layer in self._layers
        ]
        try:
            with Monitor(self._model, optimizer) as monitor:
                yield
        finally:
            _remove(handles)
        found = {record.layer: record for record in monitor.records}
        self.rows += [
            {"step": step, "name": name, "place": place}
            | {each: getattr(found[name], each) for each in _MEASURED}
            | {"saturated": saturated}
            for place, (name, saturated) in enumerate(order.items())
            if name in found
        ]


def is_recorded(step: int) -> bool:
    """Whether a step is 0 or a power of 10."""
    return str(step).rstrip("0") in ("", "1")


def _saturation(layer: Layer, order: dict[str, float | None]) -> Any:
    """A hook that notes when a layer is called, and the share of its output that is saturated."""
    bounds = bounds_of(layer)

    def called(_: nn.Module, __: Any, output: Any) -> None:
        order.setdefault(layer.name, None)
        tensor = None if bounds == NOWHERE else first_measurable(output)
        if tensor is not None:
            found = describe(tensor.detach(), bounds)
            order[layer.name] = (found.low + found.high) / found.count

    return called


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
