"""The affine maps that a call of a layer computes: a weight, a bias, and the output that they give."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.rnn import PackedSequence

from pyinit._graph.kinds import RECURRENT_LAYERS
from pyinit.data_driven.adjustable import Adjustable, Numbers
from pyinit.data_driven.layouts import (
    Layout,
    gates_in,
    layout_by_shape,
    layout_in,
    matrices_in,
)
from pyinit.data_driven.ranks import ALONE
from pyinit.inspection.walk import Call
from pyinit.reports.adjustment import Adjustment, channels_of

_KINDS = ("linear", "conv", "embedding")


class At(Protocol):
    """Gives a parameter, or some output channels of it, by name."""

    def __call__(
        self, name: str, rows: range | None = None, dim: int | None = None
    ) -> Adjustable | None: ...


class Affine:
    """An affine map in a call of a layer: its output is ``weight @ input + bias``, in whatever form.

    name: the layer's name; behind it, for one of several matrices in a weight, which one it is
    kind: ``"linear"``, ``"conv"``, ``"embedding"``, ``"recurrent"``
    module: the module that owns the weight
    weight: the weight, or its output channels that make this map
    bias: the bias; None if there is none, or none that may be changed
    channel: the dimension of ``output`` in which its channels stand; None if that cannot be told, so
        that numbers for each channel cannot be set
    input: the first argument of the layer
    ranks: who measures this map's output, each for a batch of its own
    """

    def __init__(  # noqa: PLR0917
        self,
        name: str,
        call: Call,
        weight: Adjustable,
        bias: Adjustable | None,
        channel: int | None,
        output: Callable[[], Tensor],
        again: Callable[[], object],
        is_exact: bool,
    ) -> None:
        self.name, self.kind, self.module = name, call.kind, weight.site.module
        self.weight, self.channel = weight, channel
        self.bias = bias if bias is not None and bias.is_free else None
        self._fixed = None if self.bias is bias else bias
        self.ranks = ALONE
        self.input = call.inputs[0] if call.inputs else None
        self._output, self._again, self._is_exact = output, again, is_exact
        self._shown = self._state()

    def fix_bias(self) -> None:
        """Let the bias be, which another map has settled."""
        self._fixed, self.bias = self.bias, None
        self._shown = self._state()

    @property
    def output(self) -> Tensor:
        """What the map gave when it was last computed, in the dtype of the model's pass."""
        return self._output()

    @property
    def channels(self) -> int:
        """The number of output channels."""
        return len(self.weight.rows)

    @property
    def offset(self) -> Tensor | None:
        """What a bias adds to the base's output, whether it may be changed or not; None without one."""
        if self._fixed is not None:
            return self._fixed.now
        return None if self.bias is None else self.bias.base

    def set_(self, scale: Numbers = 1.0, shift: Numbers = 0.0) -> None:
        """Make the output ``y * scale + shift``, where ``y`` is what the base gives (without the bias, if
        that may not be changed).

        Args:
            scale: a number, or one for each channel
            shift: the same. Without a bias it must be 0

        Raises:
            ValueError: for numbers that do not fit, or a shift without a bias.
        """
        if self.bias is None and bool(torch.as_tensor(shift).ne(0).any()):
            raise ValueError(f"{self.name} has no bias that could shift its output")
        self.weight.set_(scale=scale)
        if self.bias is not None:
            self.bias.set_(scale=scale, shift=shift)

    def again(self) -> Tensor:
        """The output with the weights as they are now.

        The layer alone is computed again; or, where the output is a product that only a factor has
        changed since, it is multiplied in place.
        """
        state = self._state()
        if state != self._shown:
            factor = self._factor() if self._is_exact else None
            if factor is None:
                torch.clear_autocast_cache()  # which has the weights as they were
                self._again()
            else:
                self.output.mul_(factor)
            self._shown = state
        return self.output

    def finish(self, *, is_last: bool = True) -> None:
        """Go on from what the weights now give; let their base go if they are not set again."""
        self.again()
        if not is_last:
            return
        self.weight.done()
        if self.bias is not None:
            self.bias.done()

    def _state(self) -> "_State":
        if self.bias is None:
            return _State(self.weight.adjustment, None, (self.weight.drawn, 0))
        drawn = self.weight.drawn, self.bias.drawn
        return _State(self.weight.adjustment, self.bias.adjustment, drawn)

    def _factor(self) -> Tensor | float | None:
        """By what the output has grown, if nothing else has happened to it."""
        shown, state = self._shown, self._state()
        if shown.drawn != state.drawn or not (shown.is_factor and state.is_factor):
            return None
        if self.offset is not None and bool(self.offset.any()):
            return None
        old, new = (1.0 if each is None else each.scale for each in (shown.weight, state.weight))
        if isinstance(old, float) and isinstance(new, float):
            return new / old if old else None
        if self.channel is None:
            return None
        like = self.output
        ratio = torch.tensor(new, dtype=torch.float64) / torch.tensor(old, dtype=torch.float64)
        if not bool(ratio.isfinite().all()):
            return None
        behind = like.dim() - self.channel % like.dim() - 1
        return ratio.to(like.device, like.dtype).view(-1, *[1] * behind)


class _State(NamedTuple):
    """What an output was computed with: adjustments, and the candidates that they start from."""

    weight: Adjustment | None
    bias: Adjustment | None
    drawn: tuple[int, int]

    @property
    def is_factor(self) -> bool:
        """Whether the base has only been multiplied."""
        found = [each for each in (self.weight, self.bias) if each is not None]
        return not any(each.shift or each.values for each in found)


def affines_of(
    call: Call, at: At, hooked: set[nn.Module], leave: Callable[[str, str], None]
) -> Iterator[Affine]:
    """The affine maps of a call, in order; each is to be settled before the next one is asked for."""
    if call.kind == "recurrent" and isinstance(call.module, RECURRENT_LAYERS):
        yield from _gates(call, at, leave)
    elif call.kind in _KINDS:
        yield from _of_layer(call, at, hooked, leave)
    elif any(parameter.dim() > 1 for parameter in call.parameters.values()) and call.kind != "norm":
        leave(call.name, f"its parameters are no weight of a known kind of layer ({call.kind})")


def _of_layer(
    call: Call, at: At, hooked: set[nn.Module], leave: Callable[[str, str], None]
) -> Iterator[Affine]:
    found = {each.name: each for name in call.parameters if (each := at(name)) is not None}
    matrices = [each for each in found.values() if len(each.site.shape) > 1]
    if len(matrices) != 1 or call.tensor is None:
        if matrices:
            leave(call.name, "several weights make its output")
        return
    whole = matrices[0]
    site = whole.site
    if not (math.prod(site.shape) and call.tensor.numel()):
        leave(call.name, "its weight or its output has no elements")
        return
    is_known = _is_attention(call) or not call.layer.function
    layout = layout_in(call.module, len(site.shape)) if is_known else None
    layout = layout or layout_by_shape(site.shape, call.tensor, call.kind)
    bias = next((each for each in found.values() if _is_bias(each)), None)
    is_exact = layout is not None and _is_plain(call, site.computed is not None, hooked)
    dim = 0 if layout is None else layout.weight
    count = channels_of(site.weight, dim) or 1
    rows = _rows_taken(call, whole, count)
    biased = range(0) if bias is None else _rows_taken(call, bias, bias.channels)
    for part, inner in matrices_in(site, rows):
        weight = at(site.name, inner, dim)
        assert weight is not None
        first = biased.start + inner.start - rows.start
        yield Affine(
            f"{call.name} {part}" if part else call.name,
            call,
            weight,
            None if bias is None else at(bias.name, range(first, first + len(inner))),
            None if layout is None else layout.output,
            partial(_channels, call, layout, rows, inner),
            call.again,
            is_exact,
        )


def _channels(call: Call, layout: Layout | None, rows: range, inner: range) -> Tensor:
    output = call.tensor
    assert output is not None
    if layout is None or inner == rows:
        return output
    return output.narrow(layout.output, inner.start - rows.start, len(inner))


def _is_attention(call: Call) -> bool:
    """Whether it is a projection of ``nn.MultiheadAttention``, the one at the end among them."""
    return isinstance(call.module, (nn.MultiheadAttention, NonDynamicallyQuantizableLinear))


def _is_bias(each: Adjustable) -> bool:
    site = each.site
    return len(site.shape) == 1 and "bias" in site.leaf


def _rows_taken(call: Call, weight: Adjustable, count: int) -> range:
    """The rows of a weight that a function took, where it took a part of it."""
    whole = range(count)
    if not call.layer.function or weight.site.computed is not None:
        return whole
    parameter = weight.site.parameters[0]
    for each in call.inputs:
        if (
            isinstance(each, Tensor)
            and each._base is parameter
            and each.stride() == parameter.stride()
            and each.shape[1:] == parameter.shape[1:]
        ):
            first = (each.storage_offset() - parameter.storage_offset()) // each.stride(0)
            return range(first, first + each.shape[0])
    return whole


_PLAIN = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def _is_plain(call: Call, is_computed: bool, hooked: set[nn.Module]) -> bool:
    """Whether the output is a product of its own in new memory, that nothing has changed since."""
    output = call.tensor
    if is_computed or output is None or output.dtype not in (torch.float32, torch.float64):
        return False
    if call.layer.function:
        return _is_attention(call)
    return (
        type(call.module) in _PLAIN
        and "forward" not in vars(call.module)
        and call.module not in hooked
        and not nn.modules.module._global_forward_hooks
    )


# ---- recurrent layers ----------------------------------------------------------------------------


def _gates(call: Call, at: At, leave: Callable[[str, str], None]) -> Iterator[Affine]:
    """The input's part of what goes into each gate, level by level and direction by direction.

    A level's input is what the level below gives with its settled weights. Recurrent weights keep
    their base: what they multiply depends on all steps before.
    """
    module: Any = call.module
    inputs = call.inputs[0] if call.inputs else call.keywords["input"]
    if isinstance(inputs, PackedSequence):
        leave(call.name, "its input is packed")
        return
    before = {name: parameter._version for name, parameter in call.parameters.items()}
    levels = _levels(module)
    for level, suffixes in enumerate(levels):
        for suffix in suffixes:
            yield from _gates_of(call, at, suffix, inputs)
        if level + 1 < len(levels):
            inputs = _run_level(module, inputs, suffixes)
    if any(parameter._version != before[name] for name, parameter in call.parameters.items()):
        call.again()


def _gates_of(call: Call, at: At, suffix: str, inputs: Tensor) -> Iterator[Affine]:
    path = call.name + "." if call.name else ""
    weight, bias = at(f"{path}weight_ih{suffix}"), at(f"{path}bias_ih{suffix}")
    if weight is None:
        return
    gates = gates_in(call.module)
    size = weight.channels // len(gates)
    for i, gate in enumerate(gates):
        rows = range(i * size, (i + 1) * size)
        part = at(weight.name, rows)
        shift = None if bias is None else at(bias.name, rows)
        assert part is not None
        here = _Here(inputs, part, shift)
        yield Affine(
            " ".join(filter(None, (f"{path}weight_ih{suffix}", gate))),
            call,
            part,
            shift,
            -1,
            partial(getattr, here, "output"),
            here.run,
            is_exact=False,
        )


class _Here:
    """A product that is computed beside the layer, which shows nothing of it."""

    def __init__(self, inputs: Tensor, weight: Adjustable, bias: Adjustable | None) -> None:
        self._inputs, self._weight, self._bias = inputs, weight, bias
        self.run()

    def run(self) -> None:
        bias = None if self._bias is None else self._bias.now
        self.output = functional.linear(self._inputs, self._weight.now, bias)


def _levels(module: Any) -> list[list[str]]:
    """The ends of the names of a recurrent layer's parameters, level by level."""
    if isinstance(module, nn.RNNCellBase):
        return [[""]]
    ends = ("", "_reverse") if module.bidirectional else ("",)
    return [[f"_l{level}{end}" for end in ends] for level in range(module.num_layers)]


def _run_level(module: Any, inputs: Tensor, suffixes: list[str]) -> Tensor:
    """What one level of a recurrent layer gives from zero states on."""
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    weights = [
        getattr(module, f"{kind}{suffix}")
        for suffix in suffixes
        for kind in kinds
        if getattr(module, f"{kind}{suffix}", None) is not None
    ]
    x = inputs if inputs.dim() == 3 else inputs.unsqueeze(0 if module.batch_first else 1)
    batch = x.shape[0 if module.batch_first else 1]
    sizes = [module.hidden_size]
    if module.mode == "LSTM":
        sizes = [module.proj_size or module.hidden_size, module.hidden_size]
    states = tuple(x.new_zeros(len(suffixes), batch, size) for size in sizes)
    run: Any = getattr(torch._VF, module.mode.lower())
    hidden = states if module.mode == "LSTM" else states[0]
    # One level, without dropout, not for training.
    output: Tensor = run(
        x, hidden, weights, module.bias, 1, 0.0, False, module.bidirectional, module.batch_first
    )[0]
    return output if inputs.dim() == 3 else output.squeeze(0 if module.batch_first else 1)
