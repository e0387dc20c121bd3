"""``replay_``: the same values again, from a report."""

from dataclasses import replace
from os import PathLike
from typing import Any

from torch import nn

from pyinit._messages import first_of
from pyinit._random.rng import Key, Source, rng, stream_of
from pyinit._sharding.zero3 import settle_
from pyinit._torch.eager import eager
from pyinit._torch.garbage import uncollected
from pyinit._torch.placement import refuse_elsewhere
from pyinit._torch.views import dtype_name
from pyinit.initializers import KEEP, ZEROS, Keep, OwnReset
from pyinit.reports.initialization import (
    InitReport,
    Kept,
    Row,
    torch_version,
    version_of_pyinit,
)
from pyinit.whole_model.engine.adjust import adjust_site_, start_of
from pyinit.whole_model.engine.buffers import IsTouched, plan_resets
from pyinit.whole_model.engine.execute import measured
from pyinit.whole_model.engine.plan import (
    NO_OWN_RESET,
    Entry,
    check,
    refuse_partitioned_without_keys,
    refuse_sites_elsewhere,
    refuse_without_memory,
)
from pyinit.whole_model.initialize import carry_out, refuse_buffers_elsewhere, row_of
from pyinit.whole_model.network import Network, Site


@eager
def replay_(model: nn.Module, report: Any, *, strict: bool = True) -> InitReport:
    """Give a model the same values again, from the keys in a report: bit for bit.

    A report cannot give all values again. Those of parameters that stayed as they were are not in
    it; numbers that were drawn without a key are lost; torch's own numbers, and those of a
    module's own ``reset_parameters``, need the same version of torch (and the same code of that
    function, which is not in the report). What a data-driven method found is in its report, and needs no
    data; if it began with the weights as they were, so must the replay. Parameters that are missing, or have another shape, dtype
    or tie, are not the same parameters.

    Args:
        model: A model whose parameters have the names, shapes and dtypes of the report's rows. It
            may be on the meta device.
        report: What ``initialize_`` or a data-driven method returned, or the path of the JSON file that
            it was saved in.
        strict: Raise if anything cannot be given again. If False, such parameters stay as they are.

    Returns:
        A report with a row for each parameter of the model: what it now has. Its ``skipped`` names
        what could not be given again, and why.

    Raises:
        ValueError: For what cannot be given again, all of it by name, before anything is written;
            for parameters without values or with values elsewhere, as in ``initialize_``.
        TypeError: For arguments of another type.
        OSError: If the file cannot be read.

    Example:
        >>> import torch, pyinit
        >>> first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
        >>> report = pyinit.initialize_(first, "xavier")
        >>> _ = pyinit.replay_(second, report)
        >>> torch.equal(first.weight, second.weight)
        True
        >>> other = torch.nn.Linear(4, 2)
        >>> pyinit.replay_(other, report, strict=False).skipped
        (('weight', 'of shape (2, 4) in the model, (2, 3) in the report'),)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    given = InitReport.load(report) if isinstance(report, str | PathLike) else report
    report = getattr(given, "init", given)
    if not isinstance(report, InitReport):
        raise TypeError(
            f"report must be an InitReport or a file's path, got {type(given).__name__}"
        )
    with uncollected():
        network = Network(model)
        rows, lost = _rows(network, report)
        plan = [_entry(site, rows.get(site.name), lost) for site in network.sites]
        adjusted = [
            (site, row)
            for site in network.sites
            if (row := rows.get(site.name)) and row.adjustment is not None and row.name not in lost
        ]
        refuse_sites_elsewhere("replay_", (e.site for e in plan if not e.is_kept), network)
        refuse_elsewhere("replay_", (n for s, _ in adjusted for n in s.named_parameters), model)
        lost |= _check(plan)
        if lost and strict:
            raise ValueError(
                f"the report cannot give again {len(lost)} of the parameters: {_by_reason(lost)} "
                "(strict=False leaves them as they are)"
            )
        if report.rng == "torch":
            refuse_partitioned_without_keys("replay_", plan)
        refuse_without_memory("replay_", plan)
        keys = {row.name: Key(row.key, row.stream or 0) for row in report if row.key is not None}
        base = next(iter(keys.values()), Key(0)).key

        def sources(name: str) -> Source:
            row = rows.get(name)
            return (row and keys.get(row.name)) or Key(base, stream_of(name))

        resets = plan_resets(network.modules, IsTouched(plan), may_be_empty=network.has_dtensors)
        refuse_buffers_elsewhere("replay_", network, resets)
        of_each = [sources(entry.site.name) for entry in plan]
        with rng(report.rng, report.stream_version):
            moments = carry_out(network, plan, of_each, sources, resets, device=None)
        made = {row.name: row for row in map(row_of, plan, of_each, moments)}
        for name, row in rows.items():
            if row.name not in lost:
                made[name] = made[name]._replace(start=row.start)
        for site, row in adjusted:
            made[site.name] = _adjusted(site, row, report)
        return replace(
            report,
            rows=list(made.values()),
            buffers=[(path, how) for path, how, _ in resets],
            dry_run=False,
            skipped=tuple(lost.items()),
            version=version_of_pyinit(),
            torch=torch_version(),
        )


def _rows(network: Network, report: InitReport) -> tuple[dict[str, Row], dict[str, str]]:
    """The row of each parameter, and the reasons of those that cannot be given again, by name."""
    rows: dict[str, Row] = {}
    lost: dict[str, str] = {}
    for row in report:
        site = network.by_name.get(row.name)
        if site is None:
            lost[row.name] = "the model has no such parameter"
            continue
        first = rows.setdefault(site.name, row)
        if first is not row:
            lost[row.name] = f"the model ties it to {first.name}, the report has it apart"
        elif why := (
            _other_place(row, site)
            or _no_numbers(row, site, report)
            or _no_own_reset(row, site, network)
            or _misfit(row, report)
        ):
            lost[row.name] = why
    tied: dict[str, Row] = {}
    for row in report:
        for name in row.tied:
            tied.setdefault(name, row)
    lost |= {site.name: _no_row(site, tied) for site in network.sites if site.name not in rows}
    return rows, lost


def _entry(site: Site, row: Row | None, lost: dict[str, str]) -> Entry:
    if row is None:
        return Entry(site, KEEP, lost[site.name], ())
    is_kept = isinstance(row.initializer, Keep)
    if row.name in lost and not is_kept:
        return Entry(site, KEEP, lost[row.name], ())
    if is_kept and row.name not in lost and _has_values(row) and site.tensor.is_meta:
        return Entry(
            site, ZEROS, row.why, ZEROS.resolve(row.weight)
        )  # memory, until they are there
    return Entry(site, row.initializer, row.why, row.initializer.resolve(row.weight), row.kept)


def _other_place(row: Row, site: Site) -> str | None:
    if site.shape != row.shape:
        return f"of shape {site.shape} in the model, {row.shape} in the report"
    dtype = dtype_name(site.tensor.dtype)
    return (
        None if dtype == row.dtype else f"of dtype {dtype} in the model, {row.dtype} in the report"
    )


def _no_own_reset(row: Row, site: Site, network: Network) -> str | None:
    is_lost = isinstance(row.initializer, OwnReset) and not network.own_resets.of(
        site.path, site.leaf
    )
    return NO_OWN_RESET if is_lost else None


def _has_values(row: Row) -> bool:
    return row.adjustment is not None and bool(row.adjustment.values)


def _misfit(row: Row, report: InitReport) -> str | None:
    if row.adjustment is None:
        return None
    if name := row.adjustment.values:
        values = report.tensors.get(name)
        if values is None or tuple(values.shape) != row.shape:
            found = "none" if values is None else f"one of shape {tuple(values.shape)}"
            return f"its values are to be the report's tensor {name!r}, and there is {found}"
    return row.adjustment.misfit(row.weight)


def _no_numbers(row: Row, site: Site, report: InitReport) -> str | None:
    if isinstance(row.initializer, Keep):
        is_filled = row.kept is Kept.SAME_MEMORY or _has_values(row)
        return None if is_filled else _other_start(row, site, report)
    if row.key is None:
        return "drawn from torch's generator, without a key (give initialize_ a seed to replay it)"
    if report.torch == torch_version():
        return None
    there = f"torch {report.torch or 'of an unknown version'}, and here is {torch_version()}"
    if isinstance(row.initializer, OwnReset):
        return f"its module's own reset function ran under {there}"
    return f"its numbers are those of {there}" if report.rng != "philox" else None


def _other_start(row: Row, site: Site, report: InitReport) -> str | None:
    if row.start is None:
        return f"it stayed as it was ({row.why})"
    method = report.method.partition("(")[0]
    if any(tensor.is_meta for tensor in site.parameters):
        return f"{method} began with the values that it had, and here it is on the meta device"
    refuse_elsewhere("replay_", site.named_parameters)
    if start_of(site) == row.start:
        return None
    return f"{method} began with other values than it has here"


def _adjusted(site: Site, row: Row, report: InitReport) -> Row:
    """Adjust a parameter, which has its base. What is in the report of it."""
    adjustment = row.adjustment
    assert adjustment is not None
    like = site.parameters[0]
    if adjustment.values:
        base = report.tensors[adjustment.values].to(like.device)
    else:
        base = like if site.computed is None else site.computed.value().detach()
    adjust_site_(site, base, adjustment)
    settle_(site.parameters)
    value = site.parameters[0] if site.computed is None else site.computed.value()
    mean, std, least, most = measured(value.detach()) or (None, None, None, None)
    return row._replace(
        name=site.name,
        mean=mean,
        std=std,
        min=least,
        max=most,
        tied=site.tied,
        originals=site.originals,
    )


def _by_reason(lost: dict[str, str]) -> str:
    names: dict[str, list[str]] = {}
    for name, why in lost.items():
        names.setdefault(why, []).append(name)
    return "; ".join(f"{first_of(some)}: {why}" for why, some in names.items())


def _no_row(site: Site, tied: dict[str, Row]) -> str:
    for name in (site.name, *site.tied):
        row = tied.get(name)
        if row is not None:
            return f"the report ties it to {row.name}, the model has it apart"
    return "the report has no row for it"


def _check(plan: list[Entry]) -> dict[str, str]:
    """Refuse what cannot be written, and name what shares memory otherwise than in the report."""
    of_report = [(entry.is_kept, entry.kept) for entry in plan]
    for entry in plan:
        if entry.kept is Kept.SAME_MEMORY:
            entry.kept = Kept.UNKNOWN  # until the check finds that it shares memory here, too
    check(plan)
    lost = {}
    for entry, (was_kept, kept) in zip(plan, of_report, strict=True):
        is_shared = entry.kept is Kept.SAME_MEMORY
        if kept is Kept.SAME_MEMORY and not is_shared:
            entry.kept = None
            lost[entry.site.name] = entry.why = f"{entry.why} in the report, apart in the model"
        elif is_shared and not was_kept:
            lost[entry.site.name] = f"{entry.why} in the model, apart in the report"
    return lost
