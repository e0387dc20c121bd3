"""Adjustments as values."""

import json

import pytest

from pyinit.initializers import Weight
from pyinit.reports.adjustment import Adjustment, Span


@pytest.mark.parametrize(
    "adjustment",
    [
        Adjustment(),
        Adjustment(0.1, -2.5),
        Adjustment((0.1, 1 / 3), 0.0, 1),
        Adjustment(1.0, (1e-300, 2.0), values="a.weight"),
    ],
)
def test_json_gives_it_back_exactly(adjustment: Adjustment) -> None:
    text = json.dumps(adjustment.to_dict(), allow_nan=False)
    assert Adjustment.from_dict(json.loads(text)) == adjustment


@pytest.mark.parametrize(
    "arguments",
    [{"scale": float("nan")}, {"shift": (1.0, float("inf"))}, {"scale": ()}, {"dim": 2}],
)
def test_what_could_not_be_applied_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Adjustment(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "groups", "dim", "count"),
    [((6, 2, 3), 1, 0, 6), ((6, 2, 3), 3, 0, 6), ((6, 2, 3), 3, 1, 6), ((50, 8), 1, 1, 8)],
)
def test_it_fits_as_many_channels_as_there_are(
    shape: tuple[int, ...], groups: int, dim: int, count: int
) -> None:
    weight = Weight(shape, groups)
    assert Adjustment((1.0,) * count, dim=dim).misfit(weight) is None
    assert f"{count} output channels" in (Adjustment((1.0,) * 5, dim=dim).misfit(weight) or "")


def test_spans_are_joined() -> None:
    one, other = Span.of(Adjustment(2.0)), Span.of(Adjustment((0.5, 1.0), 3.0))
    assert str(one + other) == "x 0.5..2, + 0..3"
    assert str(Span.of(Adjustment(values="w"))) == "own values"
