"""Files of reports in which something is of another kind: ValueError that names the file, and nothing else."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pyinit


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


def batch() -> torch.Tensor:
    return torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


REPORTS: dict[str, Callable[[], Any]] = {
    "init": lambda: pyinit.initialize_(chain(), seed=0),
    "adjusted": lambda: pyinit.lsuv_(chain(), batch(), seed=0).init,
    "lsuv": lambda: pyinit.lsuv_(chain(), batch(), seed=0),
    "data_dependent": lambda: pyinit.data_dependent_(chain(), batch(), seed=0),
    "whitening": lambda: pyinit.whitening_(chain(), batch(), seed=0),  # it has tensors
    "inspection": lambda: pyinit.inspect(chain(), batch(), recipes=["torch"], seed=0),
}
OTHERS: tuple[Any, ...] = (None, 3, -1.5, "x", True, [], {}, [1], ["a", "b"], {"a": 1}, [[1, 2, 3]])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value has parts, itself first; of a list the first part alone."""
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def put(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    first, *rest = path
    copied = value.copy()
    copied[first] = put(value[first], tuple(rest), other)
    return copied


def without(value: Any, path: tuple[Any, ...]) -> Any:
    *before, last = path
    whole = json.loads(json.dumps(value))
    part = whole
    for each in before:
        part = part[each]
    del part[last]
    return whole


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_of_another_kind_is_a_value_error_that_names_the_file(
    name: str, tmp_path: Path
) -> None:
    report = REPORTS[name]()
    path = tmp_path / "report.json"
    report.save(path)
    value = json.loads(path.read_text())
    refused = 0
    for place in places(value):
        damaged = [put(value, place, other) for other in OTHERS]
        if place:
            damaged.append(without(value, place))
        for other in damaged:
            path.write_text(json.dumps(other))
            try:
                again = type(report).load(path)
            except ValueError as error:
                assert str(error).startswith(f"{path}: "), place  # noqa: PT017
                refused += 1
            except FileNotFoundError as error:  # of tensors that the report did not have
                assert place[-1] == "tensors"
                assert "report.safetensors" in str(error)  # noqa: PT017
            except Exception as error:
                raise AssertionError(f"{place}: {error!r}") from error
            else:
                told(again, place)
    assert refused > 100


@pytest.mark.parametrize(
    ("place", "other", "what"),
    [
        (("init",), [1], "init must be of type dict, got [1]"),
        (("init", "rows"), 3, "rows must be of type list, got 3"),
        (("init", "seed"), "x", "seed must be of type int, got 'x'"),
        (("init", "tensors"), 3, "tensors must be a table, got 3"),
        (("layers", 0, "before"), "x", "before must be of type float, got 'x'"),
        (("left",), [["0"]], "left must have 2 values, got ['0']"),
        (("totals",), {"deviation": 1.0}, "deviation"),
    ],
)
def test_the_message_says_what_is_wrong(
    place: tuple[Any, ...], other: Any, what: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    REPORTS["lsuv"]().save(path)
    path.write_text(json.dumps(put(json.loads(path.read_text()), place, other)))
    with pytest.raises(ValueError, match=re.escape(what)) as caught:
        pyinit.LsuvReport.load(path)
    assert str(path) in str(caught.value)


def told(report: Any, place: tuple[Any, ...]) -> None:
    """What is read can be told."""
    try:
        assert str(report)
        report.to_dict()
        report.page().html()
    except Exception as error:
        raise AssertionError(f"{place}: read, and then {error!r}") from error
