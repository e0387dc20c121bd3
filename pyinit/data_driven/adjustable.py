"""A parameter, or some output channels of it, that a method adjusts."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from pyinit._random.rng import Key
from pyinit.reports.adjustment import Adjustment, channels_of
from pyinit.reports.initialization import Row
from pyinit.reports.tensors import Tensors
from pyinit.whole_model.engine.adjust import set_site_, write_adjusted_
from pyinit.whole_model.engine.execute import Batch
from pyinit.whole_model.engine.plan import Entry, view_of_entry
from pyinit.whole_model.initialize import set_computed
from pyinit.whole_model.network import Site

Numbers = float | Tensor | Sequence[float]
"""A number, or one for each output channel."""


class Keeper(Protocol):
    """What an ``Adjustable`` needs of the work that it belongs to.

    tensors: values that the report keeps
    has_base: whether a recipe has written the base, so that copies made before are not it
    """

    tensors: Tensors

    @property
    def has_base(self) -> bool: ...

    def is_free(self, site: Site) -> bool:
        """Whether a parameter may be changed."""

    def keep(self, tensor: Tensor) -> Tensor:
        """Copy what is about to be written, once. The copy."""

    def row_of(self, site: Site) -> Row:
        """The row of a parameter."""

    def set_row(self, row: Row) -> None:
        """Replace a row."""


class Adjustable:
    """A parameter, or some output channels of it, from its base on.

    Each ``set_`` starts from the base: factors do not add up. Rounding is done once, by the function that
    ``replay_`` uses, so that a replay gives the same bits.

    site: the parameter in its place; ``site.module`` is its module
    rows: the output channels
    dim: the dimension of the parameter in which they stand
    adjustment: what was set; None if it is as the base has it
    drawn: which candidate the base is; 0 at first
    """

    def __init__(self, work: Keeper, site: Site, rows: range | None, dim: int) -> None:
        self._work, self.site, self.dim = work, site, dim
        self.channels = channels_of(site.weight, dim) or 1
        self.rows = range(self.channels) if rows is None else rows
        self.adjustment: Adjustment | None = None
        self._base: Tensor | None = None
        self._originals: list[Tensor] = []  # of a computed parameter, when it has its base
        self._is_done = False
        self.drawn = 0

    @property
    def name(self) -> str:
        """The parameter's qualified name."""
        return self.site.name

    @property
    def is_free(self) -> bool:
        """Whether the method may change it."""
        return self._work.is_free(self.site)

    @property
    def is_whole(self) -> bool:
        """Whether these are all of its output channels."""
        return len(self.rows) == self.channels

    @property
    def is_drawn(self) -> bool:
        """Whether ``redraw_`` can draw it again: it was drawn from a key, and these are all of its channels."""
        row = self._work.row_of(self.site)
        has_key = row.key is not None and row.stream is not None
        return has_key and self.is_whole and bool(row.initializer.resolve(row.weight))

    @property
    def base(self) -> Tensor:
        """What the adjustment starts from, in the parameter's dtype. Do not write to it."""
        if self._base is None:
            if self._is_done:
                raise RuntimeError(f"{self.name} is settled: its base is not kept any longer")
            self._base = self._part(self._copy())
        return self._base

    @property
    def now(self) -> Tensor:
        """What it holds now. Do not write to it."""
        value = (
            self.site.parameters[0] if self.site.computed is None else self.site.computed.value()
        )
        return self._part(value.detach())

    def set_(
        self, *, scale: Numbers = 1.0, shift: Numbers = 0.0, values: Tensor | None = None
    ) -> None:
        """Write ``base * scale + shift``, or ``values * scale + shift``.

        Args:
            scale: a number, or one for each of these output channels
            shift: the same
            values: weights that are data themselves, in the shape of the parameter. The report keeps them

        Raises:
            ValueError: for numbers that are not finite or too few, or values of another shape.
        """
        base = self.base
        found = Adjustment(_numbers(scale), _numbers(shift), self.dim)
        for each in (found.scale, found.shift):
            if isinstance(each, tuple) and len(each) != len(self.rows):
                raise ValueError(
                    f"{self.name}: {len(self.rows)} output channels take as many numbers, got {len(each)}"
                )
        if values is not None:
            found, base = self._with_values(found, values)
        is_base = found == Adjustment(dim=self.dim)
        if is_base and self._originals:
            for original, before in zip(self.site.parameters, self._originals, strict=True):
                original.detach().copy_(before)
        else:
            self._write(base, found)
        self.adjustment = None if is_base else found

    def redraw_(self, candidate: int) -> None:
        """Draw the base again, from further numbers: those of the same key, and of a stream as many steps
        on. It is not adjusted afterwards.

        Raises:
            ValueError: for a parameter whose numbers have no key, or of which these are some channels.
        """
        if not self.is_drawn:
            raise ValueError(f"{self.name} cannot be drawn again: it was not drawn from a key")
        row = self._work.row_of(self.site)
        assert row.key is not None
        assert row.stream is not None
        blocks = row.initializer.resolve(row.weight)
        steps = (candidate - self.drawn) * len(blocks)
        source = Key(row.key, row.stream).further(steps)
        entry = Entry(self.site, row.initializer, row.why, blocks)
        if self.site.computed is not None:
            set_computed(entry, self.site.computed, source)
        else:
            tensor = self.site.parameters[0]
            entry.view = view_of_entry(entry, tensor)
            Batch([entry], [source], [tensor]).run()
        self._work.set_row(row._replace(stream=source.stream))
        self._base, self.adjustment, self.drawn = None, None, candidate

    def done(self) -> None:
        """It is settled: let the base go."""
        self._base, self._originals, self._is_done = None, [], True

    # ----------------------------------------------------------------------------------------------

    def _copy(self) -> Tensor:
        if self.site.computed is not None:
            for each in self.site.parameters:
                self._work.keep(each)
            self._originals = [each.detach().clone() for each in self.site.parameters]
            return self.site.computed.value().detach()
        tensor = self.site.parameters[0]
        copy = self._work.keep(tensor)
        return self._part(tensor.detach()).clone() if self._work.has_base else copy

    def _part(self, tensor: Tensor) -> Tensor:
        if self.is_whole or tensor.shape[self.dim] == len(self.rows):
            return tensor
        return tensor.narrow(self.dim, self.rows.start, len(self.rows))

    def _write(self, base: Tensor, adjustment: Adjustment) -> None:
        groups = self.site.weight.groups
        if self.site.computed is None:
            write_adjusted_(self._part(self.site.parameters[0].detach()), base, adjustment, groups)
            torch._C._increment_version([self.site.parameters[0]])
            return
        value = self.site.computed.value().detach().clone()
        write_adjusted_(self._part(value), base, adjustment, groups)
        set_site_(self.site, value)

    def _with_values(self, found: Adjustment, values: Tensor) -> tuple[Adjustment, Tensor]:
        if tuple(values.shape) != self.site.shape or not self.is_whole:
            raise ValueError(
                f"{self.name}: values must be of shape {self.site.shape}, got {tuple(values.shape)}"
            )
        like = self.site.tensor
        held = values.detach().to(like.device, like.dtype, copy=True).contiguous()
        self._work.tensors[self.name] = held
        return Adjustment(found.scale, found.shift, found.dim, self.name), held


def joined(pieces: Sequence[Adjustable]) -> Adjustment | None:
    """One adjustment of a parameter of several that its parts have; None if they have none."""
    found = [each for each in pieces if each.adjustment is not None]
    if not found:
        return None
    first = found[0]
    if first.is_whole:
        return first.adjustment
    numbers = {"scale": [1.0] * first.channels, "shift": [0.0] * first.channels}
    for each in found:
        for name, into in numbers.items():
            value = getattr(each.adjustment, name)
            several = value if isinstance(value, tuple) else [value] * len(each.rows)
            into[each.rows.start : each.rows.stop] = several
    shift = tuple(numbers["shift"])
    return Adjustment(tuple(numbers["scale"]), shift if any(shift) else 0.0, first.dim)


def _numbers(value: Numbers) -> float | tuple[float, ...]:
    if isinstance(value, Tensor):
        value = value.detach().cpu().tolist()
    if isinstance(value, (int, float)):
        return float(value)
    return tuple(map(float, value))
