"""``load_pretrained_``: weights of a checkpoint put into a model."""

import cmath
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from pyinit import _core
from pyinit._messages import first_of
from pyinit._random.rng import Key, Source, stream_of
from pyinit._sharding.zero3 import settle_
from pyinit._torch.eager import eager
from pyinit._torch.views import readable_view, writable_flat_view
from pyinit._torch.wrappers import on_plain_model
from pyinit.pretrained.adapt import check_kinds
from pyinit.pretrained.checkpoint import Checkpoint, CheckpointSource, open_source
from pyinit.pretrained.load_path import Unloaded, run_post_hooks
from pyinit.pretrained.match import Match, check_not_empty, check_strict, match
from pyinit.reports.initialization import InitReport
from pyinit.reports.loading import Adapted, LoadReport, Mismatched
from pyinit.whole_model.engine.buffers import plan_resets
from pyinit.whole_model.engine.materialize import materialize_
from pyinit.whole_model.initialize import initialize_
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.registry import Recipe
from pyinit.whole_model.rules import matcher


@eager
@on_plain_model
def load_pretrained_(
    model: nn.Module,
    source: CheckpointSource,
    *,
    strict: bool = False,
    prefix: str | None = None,
    rename: Iterable[tuple[str, str]] = (),
    adapt: str | Iterable[str] = ("first_conv", "head"),
    init_missing: Recipe | str | os.PathLike[str] | None = "auto",
    freeze: Any = None,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    allow_empty: bool = False,
    nan: str = "report",
) -> LoadReport:
    """Put pretrained weights into a model, and initialize what the source lacks.

    Everything is checked first: whatever is refused leaves the model as it was. If the copy itself
    is interrupted, by Ctrl-C say, a part of the model is loaded. Files are mapped into memory and
    copied tensor by tensor, so no second copy of the model is made. Nothing in a file is executed.

    Names are those of ``model.state_dict()``; tied parameters need one of theirs. Modules that load
    in their own way, by hooks for example, do so, or are refused. Values are rounded to the model's
    dtypes.

    Args:
        model: The model. Its parameters on the meta device get memory on torch's default device.
        source: A state dict, also inside the dictionary that a training program saved; the path of
            a ``.safetensors``, ``.pt``, ``.pth``, ``.bin`` or ``.ckpt`` file; or the path of a
            folder of shards.
        strict: Raise unless all names and shapes agree; nothing is adapted then.
        prefix: Take only those names of the source that start with this, and cut it off.
        rename: Pairs of a regular expression and its replacement, applied in order to the source's
            names. The prefixes of wrappers (``module.``, ``_orig_mod.``, ``model.``) are cut off
            without being asked for.
        adapt: What to do about tensors of another shape: ``"first_conv"`` fits the input channels
            of the first convolution, ``"head"`` makes the last layer anew, ``"pos_embed"``
            interpolates position embeddings from a square grid to the model's grid.
        init_missing: The recipe, as in ``initialize_``, for parameters that the source lacks or has
            in another shape. None leaves them as they are.
        freeze: True to freeze all parameters that were loaded, or patterns, as in rules, to freeze
            those of them that match.
        seed: The seed of ``init_missing``, as in ``initialize_``.
        generator: The generator from which the key of ``init_missing`` is drawn, if there is no
            ``seed``.
        allow_empty: Accept a source that has nothing for any parameter.
        nan: ``"report"`` counts NaN and infinite values, ``"refuse"`` raises if there are any,
            which takes a second reading.

    Returns:
        A report: which tensors have the source's values, and what became of all others.

    Raises:
        FileNotFoundError: For a path with nothing there.
        ValueError: For a damaged file, a pickle that is more than tensors and plain values, a source
            of another model, names that become one, values that are refused, tensors that have
            their values elsewhere, a module whose load cannot be followed, or wrong arguments.
        RuntimeError: If ``strict`` and names or shapes differ.

    Example:
        >>> import torch, pyinit
        >>> pretrained = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(4, 10))
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(4, 3))
        >>> report = pyinit.load_pretrained_(model, pretrained.state_dict(), freeze="0.*", seed=1)
        >>> report.loaded, report.frozen, report.reinitialized
        (('0.weight', '0.bias'), ('0.weight', '0.bias'), ('1.weight', '1.bias'))
        >>> print(report)  # doctest: +NORMALIZE_WHITESPACE
                 name      source   model
        adapted  1.weight  [10, 4]  [3, 4]  head of 3 outputs instead of 10, made anew
        adapted  1.bias    [10]     [3]     head of 3 outputs instead of 10, made anew
        state dict: 70.59 % of the parameters, 2 loaded, 2 adapted, 2 reinitialized, 2 frozen
    """
    kinds = check_kinds(adapt)
    if nan not in ("report", "refuse"):
        raise ValueError(f"nan must be 'report' or 'refuse', got {nan!r}")
    with open_source(source) as checkpoint:
        matched = match(model, checkpoint, prefix, rename, () if strict else kinds)
        if strict:
            check_strict(matched)
        if not allow_empty:
            check_not_empty(matched, checkpoint)
        if nan == "refuse":
            _refuse_nonfinite(matched, checkpoint)
        adapted = {pair.name: pair.value() for pair in matched.pairs if pair.adaptation}
        frozen = _to_freeze(model, freeze, matched.filled)
        initialized = _prepare(model, init_missing, matched, seed, generator)
        nonfinite = _copy(matched, adapted)
        written = matched.tensors()
        run_post_hooks(model, matched.missing, matched.unexpected)
        matched = matched.with_only(written)
        for name in frozen:
            model.get_parameter(name).requires_grad_(False)
        return _report(matched, checkpoint, frozen, nonfinite, initialized)


def _prepare(
    model: nn.Module,
    recipe: Recipe | str | os.PathLike[str] | None,
    matched: Match,
    seed: int | None,
    generator: torch.Generator | None,
) -> InitReport | None:
    """Give the model memory, extra states and values for what will not be copied.

    This comes before the copy, which has the last word. If it fails, the model has the tensors and
    extra states that it had.
    """
    filled = matched.filled

    def only(site: Site) -> bool:
        return filled.isdisjoint(site.originals or (site.name, *site.tied))

    def source_of(name: str) -> Source:
        return generator if seed is None else Key(seed, stream_of(name))

    report = None
    with ExitStack() as undone:
        for module in model.modules():
            undone.callback(_put_back, module, {**module._parameters, **module._buffers})
        materialize_(model, skip=_others(model, filled))
        _check_values(model, filled, recipe is not None)
        resets = plan_resets(dict(model.named_modules()), _has_meta_buffers)
        unloaded = Unloaded(matched.targets)
        undone.callback(unloaded.undo)
        for extra in matched.extras:
            undone.callback(extra.keep(unloaded))
            extra.set_(unloaded)
        if recipe is not None and any(name not in filled for name in _parameters(model)):
            report = initialize_(model, recipe, seed=seed, generator=generator, only=only)
        undone.pop_all()
    materialize_(model)
    with torch.no_grad():
        for _, _, reset in resets:
            reset(source_of)
    if report is None:
        return None
    return replace(report, rows=[row for row in report if not row.is_kept])


def _put_back(module: nn.Module, tensors: Mapping[str, Tensor | None]) -> None:
    for name, tensor in tensors.items():
        if getattr(module, name) is not tensor:
            setattr(module, name, tensor)  # a recurrent layer lists its weights once more


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by all of their names."""
    return dict(model.named_parameters(remove_duplicate=False))


def _others(model: nn.Module, filled: set[str]) -> list[Tensor]:
    """The parameters and buffers that get no values from the source."""
    named = chain(_parameters(model).items(), model.named_buffers(remove_duplicate=False))
    return [tensor for name, tensor in named if name not in filled]


def _has_meta_buffers(_: str, module: nn.Module) -> bool:
    return any(buffer is not None and buffer.is_meta for buffer in module._buffers.values())


def _check_values(model: nn.Module, filled: set[str], initialized: bool) -> None:
    """Raise ValueError if there would be parameters without values.

    A parametrized weight is initialized as a whole, so it is not if a part of it is loaded.
    """
    begun = {name.rpartition(".")[0] for name in filled if "parametrizations." in name}
    without = [
        name
        for name, tensor in _parameters(model).items()
        if tensor.is_meta and (not initialized or name.rpartition(".")[0] in begun)
    ]
    if without:
        raise ValueError(
            f"{len(without)} parameters of a model on the meta device would be without values: the "
            f"source lacks them, and init_missing does not initialize them: {first_of(without)}"
        )


@torch.no_grad()
def _copy(matched: Match, adapted: Mapping[str, Tensor]) -> dict[str, int]:
    """Copy tensor by tensor, and count the NaN and infinite values that each then has.

    adapted: the tensors that were made to fit before anything was written, by name
    """
    nonfinite = {}
    for pair in matched.pairs:
        value = adapted.get(pair.name, pair.source)
        # Several tensors may have shared one memory; from the meta device each got its own.
        tensors = {id(place.tensor): place.tensor for place in matched.slots[pair.name].places}
        for tensor in tensors.values():
            count = _copied(value, tensor)
        settle_(tensors.values())
        if count:
            nonfinite[pair.name] = count
    return nonfinite


def _copied(source: Tensor, target: Tensor) -> int:
    """Copy, and count NaN and infinite values: in one pass if the kernel can make the copy."""
    source_view, target_view = readable_view(source), writable_flat_view(target)
    if (
        source_view is None
        or target_view is None
        or source_view.dtype != target_view.dtype
        or not (source.is_contiguous() and target.is_contiguous())
    ):
        target.copy_(source)
        return _nonfinite(target)
    is_finite = _core.copy_checked(source_view.address, target_view, torch.get_num_threads())
    torch._C._increment_version((target,))
    return 0 if is_finite else _nonfinite(source)


def _nonfinite(values: Tensor) -> int:
    """How many values are NaN or infinite.

    If any is, so is their sum, which takes a tenth of the time.
    """
    if not (values.is_floating_point() or values.is_complex()):
        return 0
    if values.element_size() == 1:  # float8 has no arithmetic
        values = values.float()
    if cmath.isfinite(values.sum().item()):
        return 0
    return values.numel() - int(torch.isfinite(values).sum())


def _refuse_nonfinite(matched: Match, checkpoint: Checkpoint) -> None:
    """Raise ValueError if any value to be copied is NaN or infinite."""
    bad = [
        pair.name
        for pair in matched.pairs
        if _nonfinite(pair.value().to(matched.slots[pair.name].tensor.dtype))
    ]
    if bad:
        raise ValueError(
            f"{checkpoint.description} has NaN or infinite values in {len(bad)} tensors: "
            f"{first_of(bad)}"
        )


def _to_freeze(model: nn.Module, freeze: Any, filled: set[str]) -> list[str]:
    """Names of the parameters to freeze: all that get values, or those of them that match."""
    if freeze is None or freeze is False:
        return []
    matches = (lambda _: True) if freeze is True else matcher(freeze)
    chosen = [
        name
        for site in Network(model).sites
        if matches(site)
        for name in site.originals or (site.name,)
        if name in filled
    ]
    if not chosen and freeze is not True:
        raise ValueError(f"freeze: {freeze!r} matches nothing that is loaded")
    return chosen


def _report(
    matched: Match,
    checkpoint: Checkpoint,
    frozen: list[str],
    nonfinite: dict[str, int],
    initialized: InitReport | None,
) -> LoadReport:
    reinitialized = tuple(row.name for row in initialized or ())
    adapted = {
        name: Adapted(name, *shapes, how.how)
        for name, (shapes, how) in matched.mismatched.items()
        if how is not None and (how.apply is not None or name in reinitialized)
    }
    return LoadReport(
        source=checkpoint.description,
        coverage=matched.coverage,
        loaded=tuple(pair.name for pair in matched.pairs if pair.adaptation is None),
        extras=tuple(extra.name for extra in matched.extras),
        adapted=tuple(adapted.values()),
        mismatched=tuple(
            Mismatched(name, *shapes)
            for name, (shapes, _) in matched.mismatched.items()
            if name not in adapted
        ),
        missing=tuple(matched.missing),
        unexpected=tuple(matched.unexpected),
        reinitialized=reinitialized,
        frozen=tuple(frozen),
        nonfinite=nonfinite,
        initialized=initialized,
    )
