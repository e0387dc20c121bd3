"""``Monitor``: records what training does to the layers of a model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pyinit._messages import first_of
from pyinit._torch.eager import eager
from pyinit.inspection.arguments import check_model, whole_number
from pyinit.inspection.monitor import exports
from pyinit.inspection.monitor.activations import of_calls
from pyinit.inspection.monitor.layers import layers_of
from pyinit.inspection.monitor.norms import norms, norms_of_gradients, ratio, together
from pyinit.inspection.monitor.passes import Passes
from pyinit.inspection.monitor.pictures import page, pictures
from pyinit.inspection.monitor.records import Record
from pyinit.inspection.monitor.scaler import Scale, is_skipped, scale_of_step
from pyinit.inspection.monitor.start import Distance, From, Start, check_start
from pyinit.reports.figure import figure
from pyinit.reports.page import Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self


class Monitor:
    """Records what training does to the layers of a model, every so many steps of its optimizer.

    It watches by hooks of modules, outputs and optimizer, and changes nothing: training gives the same
    bits with it as without. Hooks of modules are there around recorded steps only. While a recorded
    step is made, there is a copy of the watched parameters that the optimizer has.

    A step is a step of the optimizer, however many batches its gradients are from; one that a
    ``GradScaler`` skips is none. Of a step belong the passes that its gradients came back through, so
    that evaluations in between leave no trace. Gradients are reported unscaled, and both as the backward
    pass left them and as the optimizer got them. Of an optimizer that is given a closure, the last
    evaluation counts.

    Hooks do not reach into graphs that ``torch.compile`` or TorchScript makes. Of layers there, parameters are recorded,
    and not outputs; ``uncalled`` names them.

    Args:
        model: the model, also in ``torch.compile`` or ``DistributedDataParallel``
        optimizer: the optimizer that trains it, or a wrapper with the optimizer as ``.optimizer``, as
            accelerate and Lightning have. With several optimizers, make a monitor for each
        every: how many steps there are from one recorded step to the next; the first step is recorded
        layers: which layers are recorded: a glob over their names, a compiled regular expression, a class
            of modules, a function from layer (``name``, ``module``, ``parameters``) to bool, or a list of
            these. By default activations, and all modules that own parameters
        start: what ``distance`` is measured from. ``"copy"`` keeps copies, in the CPU's memory, of the
            parameters as they are now. With the report of ``initialize_`` the initial values are
            generated again each time, in small pieces, and not kept; this takes a uniform,
            normal, truncated normal or constant initializer (or several in parts) with a key. Other
            parameters are copied now, and ``copied`` names them. None: no distance

    Attributes:
        records: a ``Record`` for each recorded step and layer, in this order
        steps: the number of steps that the optimizer has made since the monitor began
        copied: the names of the parameters whose initial values are kept

    Raises:
        TypeError: for arguments of other types.
        ValueError: for ``every`` below 1; if the optimizer has none of the watched parameters; for a
            pattern that no layer matches; for parameters that are lazy, on the meta device or have their
            values elsewhere (sharded, offloaded); for a report of another model.
        RuntimeError: for a monitor that is entered after it has been stopped.

    Example:
        >>> import torch, pyinit
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
        >>> report = pyinit.initialize_(model, "kaiming", seed=0)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        >>> x = torch.linspace(-1, 1, 24).reshape(8, 3)
        >>> with pyinit.Monitor(model, optimizer, every=2, start=report) as monitor:
        ...     for _ in range(4):
        ...         optimizer.zero_grad()
        ...         model(x).square().mean().backward()
        ...         optimizer.step()
        >>> [(record.step, record.layer, record.calls) for record in monitor.records]
        [(0, '0', 1), (0, '1', 1), (0, '2', 1), (2, '0', 1), (2, '1', 1), (2, '2', 1)]
        >>> first, last = monitor.records[0], monitor.records[3]
        >>> first.distance, 0 < last.distance < 0.1
        (0.0, True)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        every: int = 50,
        *,
        layers: Any = None,
        start: From = None,
    ) -> None:
        check_model(model)
        self._optimizer = _inside(optimizer)
        self._every = whole_number("every", every, 1)
        check_start(start)
        self._layers = layers_of(model, layers)
        self._parameters: dict[str, nn.Parameter] = {
            name: each for layer in self._layers for name, each in layer.parameters.items()
        }
        self._refuse_other(model)
        self._start = Start(start, self._parameters)
        self.records: list[Record] = []
        self.steps = 0
        self.copied = self._start.copied
        self._called: set[str] = set()
        self._before: _Before | None = None
        self._is_skipped = False
        self._passes = Passes(model, self._layers)
        self._on_optimizer = [
            self._optimizer.register_step_pre_hook(self._before_step),
            self._optimizer.register_step_post_hook(self._after_step),
        ]
        self._passes.open()

    @property
    def uncalled(self) -> tuple[str, ...]:
        """The names of watched layers that no recorded pass has called, as far as hooks are told."""
        if not self.records:
            return ()
        return tuple(layer.name for layer in self._layers if layer.name not in self._called)

    def stop(self) -> None:
        """Remove all hooks. The records stay; a step that is not complete has none.

        Example:
            >>> import torch, pyinit
            >>> model = torch.nn.Linear(3, 2)
            >>> monitor = pyinit.Monitor(model, torch.optim.SGD(model.parameters()))
            >>> monitor.stop()
            >>> len(model._forward_hooks)
            0
        """
        self._passes.close()
        for handle in self._on_optimizer:
            handle.remove()
        self._on_optimizer.clear()
        self._before = None

    def __enter__(self) -> "Self":
        if not self._on_optimizer:
            raise RuntimeError("the monitor has been stopped and records no more: make another")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- results ----------------------------------------------------------------------------------

    def to_frame(self) -> Any:
        """The records as a DataFrame of pandas.

        Returns:
            A row for each record, with the fields of ``Record`` as columns; NaN where a value is None.

        Raises:
            ImportError: if pandas is not installed.

        Example:
            >>> import torch, pyinit
            >>> model = torch.nn.Linear(3, 2)
            >>> monitor = pyinit.Monitor(model, torch.optim.SGD(model.parameters()))
            >>> frame = monitor.to_frame()  # doctest: +SKIP
            >>> frame.pivot(index="step", columns="layer", values="update_ratio")  # doctest: +SKIP
        """
        return exports.to_frame(self.records)

    def plot(self) -> "Figure":
        """The pictures, by matplotlib.

        Standard deviations of outputs, dead channels, norms of gradients, update ratios, and distances
        from the start if they were asked for, over the steps: of at most 8 layers, evenly by depth.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows, and whose ``savefig`` writes it. It
            is none of pyplot's figures, and need not be closed.

        Raises:
            ImportError: if matplotlib is not installed.

        Example:
            >>> import torch, pyinit
            >>> model = torch.nn.Linear(3, 2)
            >>> monitor = pyinit.Monitor(model, torch.optim.SGD(model.parameters()))
            >>> monitor.plot().savefig("training.png")  # doctest: +SKIP
        """
        return figure(pictures(self.records))

    def page(self) -> Page:
        """The records as a page for a browser: pictures, and a table with a row for each layer.

        Example:
            >>> import torch, pyinit
            >>> model = torch.nn.Linear(3, 2)
            >>> monitor = pyinit.Monitor(model, torch.optim.SGD(model.parameters()))
            >>> monitor.page().summary
            'pyinit.Monitor: 0 layers, 0 recorded steps'
        """
        return page(self.records)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the records to a file, which is there whole or not at all.

        Args:
            path: the file's path, which ends in ``.csv``, ``.json`` or ``.parquet``, or in ``.html``,
                which makes it a page for a browser; a file that is there is replaced. JSON has null
                where a value is not finite. A page has pictures, and a summary of each layer.

        Raises:
            ValueError: if the name has another end.
            ImportError: for ``.parquet``, if pyarrow is not installed.
            OSError: if the file cannot be written.

        Example:
            >>> import tempfile, torch, pyinit
            >>> from pathlib import Path
            >>> model = torch.nn.Linear(3, 2)
            >>> optimizer = torch.optim.SGD(model.parameters())
            >>> with pyinit.Monitor(model, optimizer) as monitor:
            ...     model(torch.ones(5, 3)).sum().backward()
            ...     optimizer.step()
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     monitor.save(f"{folder}/training.csv")
            ...     print(Path(folder, "training.csv").read_text().splitlines()[1][:4])
            0,,1
        """
        exports.save(self.records, path)

    def to_tensorboard(self, writer: Any) -> None:
        """Give each value to a writer of TensorBoard's as the scalar ``layer/value``.

        Args:
            writer: a ``torch.utils.tensorboard.SummaryWriter``, or what else has its ``add_scalar``

        Raises:
            TypeError: if it has none.

        Example:
            >>> import torch, pyinit
            >>> class Writer:
            ...     def add_scalar(self, tag, value, global_step):
            ...         print(tag, value, global_step)
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2))
            >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
            >>> with pyinit.Monitor(model, optimizer) as monitor:
            ...     model(torch.zeros(5, 3)).sum().backward()
            ...     optimizer.step()
            >>> monitor.to_tensorboard(Writer())  # doctest: +ELLIPSIS
            0/mean ...
            0/update_ratio 0.0 0
        """
        if not callable(getattr(writer, "add_scalar", None)):
            raise TypeError(f"writer must have add_scalar, got {type(writer).__name__}")
        exports.to_tensorboard(self.records, writer)

    # ---- a step -----------------------------------------------------------------------------------

    def _refuse_other(self, model: nn.Module) -> None:
        """Refuse an optimizer of another model."""
        if self._parameters and not self._trained():
            raise ValueError(
                f"optimizer has none of the parameters that are watched: {first_of(self._parameters)}"
            )
        if not self._parameters:  # activations alone are watched
            has = {id(each) for group in self._optimizer.param_groups for each in group["params"]}
            if has.isdisjoint(map(id, model.parameters())):
                raise ValueError("optimizer has none of the model's parameters")

    def _trained(self) -> dict[str, nn.Parameter]:
        """The watched parameters that the optimizer has."""
        has = {id(each) for group in self._optimizer.param_groups for each in group["params"]}
        return {name: each for name, each in self._parameters.items() if id(each) in has}

    @torch.no_grad()
    @eager
    def _before_step(self, _: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._is_skipped = is_skipped(self._optimizer)
        if self._is_skipped or not self._passes.is_open:
            return
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        trained = self._trained()
        self._before = _Before(
            scale=scale_of_step(self._optimizer),
            gradients=None if closure is not None else norms_of_gradients(self._parameters),
            distances=self._start.distances(self._parameters),
            weights=dict(zip(self._parameters, norms(self._parameters.values()), strict=True)),
            trained={name: each.detach().clone() for name, each in trained.items()},
        )

    @torch.no_grad()
    @eager
    def _after_step(self, *_: Any) -> None:
        if self._is_skipped:
            return
        before, self._before = self._before, None
        if before is not None:
            self._record(before)
        self.steps += 1
        if self.steps % self._every == 0:
            self._passes.open()
        elif self._passes.is_open:
            self._passes.close()

    def _record(self, before: "_Before") -> None:
        gradients = before.gradients
        if gradients is None:  # a closure has made them meanwhile
            gradients = norms_of_gradients(self._parameters)
        changes = (_change(old, self._parameters[name]) for name, old in before.trained.items())
        changed = dict(zip(before.trained, norms(changes), strict=True))
        unclipped = self._passes.gradient_norms
        for layer, calls in self._passes.calls().items():
            names = layer.parameters
            trained = [name for name in names if name in changed]
            if calls:
                self._called.add(layer.name)
            self.records.append(
                Record(
                    step=self.steps,
                    layer=layer.name,
                    calls=len(calls),
                    **of_calls(calls, before.scale.of_backward),
                    gradient_norm=_scaled(gradients, names, before.scale.of_step),
                    unclipped_norm=_scaled(unclipped, names, before.scale.of_backward),
                    weight_norm=together(before.weights[name] for name in names),
                    update_ratio=ratio(
                        together(changed[name] for name in trained),
                        together(before.weights[name] for name in trained),
                    ),
                    distance=_distance(names, before.distances),
                )
            )


@dataclass
class _Before:
    """What a recorded step begins with.

    scale: by what gradients have been multiplied
    gradients: their norms, by the parameter's name; None if a closure is still to make them
    distances: how far parameters are from their start, as far as that is known
    weights: the norms of parameters
    trained: copies of the parameters that the optimizer has
    """

    scale: Scale
    gradients: dict[str, float] | None
    distances: dict[str, Distance]
    weights: dict[str, float]
    trained: dict[str, Tensor]


def _change(before: Tensor, now: Tensor) -> Tensor:
    """The difference of a parameter, in the memory of its copy if that is precise enough."""
    return (before if before.itemsize >= 4 else before.float()).sub_(now)


def _scaled(norms: Mapping[str, float], names: Iterable[str], scale: float) -> float | None:
    """The norm of the gradient by some parameters, without the scale."""
    norm = together(norms[name] for name in names if name in norms)
    return None if norm is None else norm / scale


def _distance(names: Iterable[str], distances: Mapping[str, Distance]) -> float | None:
    """The relative distance of some parameters from their start."""
    known = [distances[name] for name in names if name in distances]
    return ratio(together(each.moved for each in known), together(each.start for each in known))


def _inside(optimizer: Any) -> Optimizer:
    """The optimizer inside wrappers such as accelerate's, which has the hooks."""
    found = optimizer
    while isinstance(getattr(found, "optimizer", None), Optimizer):
        found = found.optimizer
    if not isinstance(found, Optimizer):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}"
        )
    return found
