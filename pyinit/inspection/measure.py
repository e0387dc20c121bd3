"""Measures one pass through a model, at each call of its layers. Nothing of the pass is kept."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pyinit.inspection.batches import Batch, named_tensors
from pyinit.inspection.calls import Call
from pyinit.inspection.default_loss import classes_second
from pyinit.inspection.expectation import Chain, Expected
from pyinit.inspection.histogram import histogram
from pyinit.inspection.layers import WITH_ACTIVATIONS
from pyinit.inspection.layouts import Layouts
from pyinit.inspection.rows import NAN, Backward, Forward, LayerRow, Look, WeightRow
from pyinit.inspection.samples import angles
from pyinit.inspection.saturation import NOWHERE, bounds_of, name_of_activation
from pyinit.inspection.spectra import extreme_singular_values
from pyinit.inspection.statistics import (
    Bounds,
    Statistics,
    describe,
    describe_many,
    describe_units,
)
from pyinit.inspection.walk import Walked, walk
from pyinit.reports.initialization import InitReport
from pyinit.whole_model.network import Network

Loss = Callable[..., Tensor]


def look_at(
    model: nn.Module,
    batch: Batch,
    loss: Loss | None,
    layers: Any,
    *,
    recipe: str = "",
    report: InitReport | None = None,
    spectra: bool = False,
) -> Look:
    """One pass, with a row for each call."""
    measured = _Measured()
    walked = walk(
        model,
        batch.kwargs or batch.args,
        measured.forward,
        target=batch.target,
        layers=WITH_ACTIVATIONS if layers is None else layers,
        loss=loss,
        visit_gradient=None if loss is None else measured.backward,
        visit_weight=None if loss is None else measured.weight,
        reads_only=True,
    )
    weights = _weights(model, measured, report, spectra=spectra)
    expected = measured.chain.expected() or [Expected()] * len(measured.rows)
    rows = tuple(
        replace(
            row,
            recipe=recipe,
            forward=replace(row.forward, expected_std=std, expected_cosine=cosine, chi=chi),
            backward=measured.backwards.get((row.name, row.call)),
            weight=weights.get(parameter),
        )
        for (row, parameter), (std, cosine, chi) in zip(measured.rows, expected, strict=True)
    )
    value = NAN if walked.loss is None else walked.loss
    return Look(
        recipe,
        rows,
        value,
        _classes(walked, batch.target),
        walked.unused,
        walked.frozen,
        walked.quantized,
    )


class _Measured:
    """What the visits have found."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.rows: list[tuple[LayerRow, str]] = []  # and the name of each one's weight
        self.backwards: dict[tuple[str, int], Backward] = {}
        self.gradients: dict[int, tuple[float, float]] = {}  # std and norm, by the parameter
        self._layouts = Layouts()

    def forward(self, call: Call) -> None:
        tensor = call.tensor
        if tensor is not None and tensor.is_nested:  # whose sizes are several
            tensor = None
        usable = tensor is not None and not tensor.is_meta and not tensor.is_complex()
        shape = () if tensor is None else tuple(tensor.shape)
        found = self._forward(call, tensor) if usable and tensor is not None else Forward(0)
        row = LayerRow(
            recipe="",
            name=call.name,
            call=call.number,
            kind=call.kind,
            module=type(call.module).__name__,
            activation=name_of_activation(call.layer),
            shape=shape,
            forward=found,
            finite_inputs=not found.nonfinite or _finite(call),
        )
        self.rows.append((row, _weight_of(call.parameters)))
        self.chain.follow(call)

    def backward(self, call: Call, gradient: Tensor) -> None:
        found = describe(gradient)
        self.backwards[call.name, call.number] = Backward(
            found.mean, found.std, _share(found.zeros, found.count), found.nonfinite
        )

    def weight(self, _: str, parameter: nn.Parameter, gradient: Tensor) -> None:
        if gradient.is_complex():  # of a weight that has no row
            return
        found = describe(gradient)
        self.gradients[id(parameter)] = found.std, _norm(found.count, found.mean, found.std)

    def _forward(self, call: Call, tensor: Tensor) -> Forward:
        bounds = bounds_of(call.layer)
        strided = tensor.layout is torch.strided
        if not strided or tensor.dim() < 2 or not tensor.numel():
            kept = histogram(tensor) if strided else None
            return replace(_whole(describe(tensor, bounds), bounds), histogram=kept)
        samples, channel = self._layouts.of(call.layer, tensor)
        whole, dead, total_variance = describe_units(tensor, channel, samples, bounds)
        cosine, rank = angles(tensor.detach(), samples)
        return replace(
            _whole(whole, bounds),
            dead=float(dead.double().mean()),
            units=math.prod(tensor.shape[samples:]),
            total_variance=total_variance,
            mean_cosine=cosine,
            effective_rank=rank,
            histogram=histogram(tensor),
        )


def _whole(found: Statistics, bounds: Bounds) -> Forward:
    return Forward(
        count=found.count,
        mean=found.mean,
        std=found.std,
        skewness=found.skewness,
        kurtosis=found.kurtosis,
        min=found.min,
        max=found.max,
        nonfinite=found.nonfinite,
        zeros=_share(found.zeros, found.count),
        saturated=NAN if bounds == NOWHERE else _share(found.low + found.high, found.count),
    )


def _weight_of(parameters: Mapping[str, nn.Parameter]) -> str:
    """The name of the parameter that a layer multiplies by; "" if it has none."""
    matrices = (name for name, each in parameters.items() if each.dim() > 1)
    return next(matrices, next(iter(parameters), ""))


def _weights(
    model: nn.Module, measured: _Measured, report: InitReport | None, *, spectra: bool
) -> dict[str, WeightRow]:
    names = dict.fromkeys(name for _, name in measured.rows if name)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    held = {name: parameters[name].detach() for name in names if _is_plain(parameters[name])}
    fans = {
        name: site.weight.fans[0]
        for site in Network(model).sites
        for name in (site.name, *site.originals, *site.tied)
        if len(site.shape) > 1
    }
    rows = {}
    for (name, values), found in zip(held.items(), describe_many(list(held.values())), strict=True):
        std, norm = measured.gradients.get(id(parameters[name]), (NAN, NAN))
        initializer, expected = _meant(report, name)
        largest, smallest = extreme_singular_values(values) if spectra else (NAN, NAN)
        rows[name] = WeightRow(
            name=name,
            shape=tuple(values.shape),
            norm=_norm(found.count, found.mean, found.std),
            mean=found.mean,
            std=found.std,
            expected_std=expected,
            initializer=initializer,
            fan_in=fans.get(name, 0),
            copies=_copies(values),
            nonfinite=found.nonfinite,
            gradient_std=std,
            gradient_norm=norm,
            trained=parameters[name].requires_grad,
            largest=largest,
            smallest=smallest,
        )
    return rows


def _is_plain(parameter: nn.Parameter) -> bool:
    return parameter.is_floating_point() and parameter.layout is torch.strided


def _meant(report: InitReport | None, name: str) -> tuple[str, float]:
    if report is None:
        return "", NAN
    try:
        row = report[name]
    except KeyError:
        return "", NAN
    std = row.target_std
    return ("" if row.is_kept else str(row.initializer)), NAN if std is None else std


def _copies(weight: Tensor) -> int:
    """How many rows are equal to another one, and not 0: their sums with fixed random weights tell."""
    if weight.dim() < 2 or len(weight) < 2 or not weight.numel():
        return 0
    rows = weight.flatten(1)
    generator = torch.Generator().manual_seed(0)
    chance = torch.rand(rows.shape[1], generator=generator).to(rows.device, rows.dtype)
    sums = rows @ chance
    order = sums.argsort()
    same = sums[order][1:] == sums[order][:-1]
    if not same.any():
        return 0
    first, second = order[1:][same], order[:-1][same]
    equal = (rows[first] == rows[second]).all(1) & (rows[first] != 0).any(1)
    return len(set(first[equal].tolist()) | set(second[equal].tolist()))


def _finite(call: Call) -> bool:
    inputs = (each for _, each in named_tensors((call.inputs, dict(call.keywords))))
    return all(bool(torch.isfinite(each).all()) for each in inputs if each.is_floating_point())


def _classes(walked: Walked, target: Any) -> int:
    """The number of classes, if the loss is the cross-entropy of output and target, or one that the
    model has computed from its logits."""
    own, logits = (getattr(walked.output, name, None) for name in ("loss", "logits"))
    if isinstance(own, Tensor) and isinstance(logits, Tensor) and logits.dim():
        value = own.item() if own.numel() == 1 else None  # some models have one for each sample
        if value == walked.loss:
            return logits.shape[-1]
    logits = walked.output
    if not (isinstance(logits, Tensor) and isinstance(target, Tensor)) or walked.loss is None:
        return 0
    if target.is_floating_point() or logits.dim() != target.dim() + 1 or logits.dim() < 2:
        return 0
    logits = classes_second(logits, target)
    try:
        expected = float(functional.cross_entropy(logits.detach().float(), target))
    except (RuntimeError, IndexError):
        return 0
    return logits.shape[1] if math.isclose(expected, walked.loss, rel_tol=1e-2) else 0


def _share(some: int, count: int) -> float:
    return some / count if count else NAN


def _norm(count: int, mean: float, std: float) -> float:
    return math.sqrt(count) * math.hypot(mean, std)  # whose squares may be beyond double precision
