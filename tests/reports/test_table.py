"""The table of a report: repeated blocks stand in one line."""

import pytest
import torch
from rich.console import Console
from torch import Tensor

from pyinit.reports.table import Line, Pooled, grouped, in_parts


def line(name: str, elements: Pooled | None = None) -> Line:
    return Line(name, (50,), "normal", "weight", elements or Pooled())


def pooled(tensor: Tensor) -> Pooled:
    squares = (tensor - tensor.mean()).square().sum()
    return Pooled(tensor.numel(), tensor.mean().item(), squares.item())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["h.0.w", "h.1.w", "h.2.w"], ["h.{0-2}.w"]),
        (["h.0.w", "h.2.w"], ["h.{0,2}.w"]),
        (["h.9.w", "h.10.w"], ["h.{9-10}.w"]),
        (["h.0.a1", "h.0.a2", "h.1.a1", "h.1.a2"], ["h.{0-1}.a{1-2}"]),
        (["h.0.a1", "h.0.a2", "h.1.a1"], ["h.{0-1}.a1", "h.0.a2"]),
        (["h.0.w", "h.0.b", "h.1.w", "h.1.b"], ["h.{0-1}.w", "h.{0-1}.b"]),
        (["w", "0.w"], ["w", "0.w"]),
        ([], []),
    ],
)
def test_lines_are_merged_exactly(names: list[str], expected: list[str]) -> None:
    assert [merged.name for merged in grouped(map(line, names))] == expected


def test_lines_with_other_reasons_stay_apart() -> None:
    lines = [line("h.0.w"), Line("h.1.w", (50,), "normal", "residual projection")]
    assert [merged.name for merged in grouped(lines)] == ["h.0.w", "h.1.w"]


def test_merged_moments_are_those_of_all_elements() -> None:
    tensors = [torch.randn(50) + i for i in range(3)]
    (merged,) = grouped(line(f"h.{i}", pooled(t)) for i, t in enumerate(tensors))
    whole = torch.cat(tensors)
    assert merged.elements.mean == pytest.approx(whole.mean().item(), abs=1e-6)
    assert merged.elements.std == pytest.approx(whole.std(correction=0).item(), rel=1e-5)


NAMES = {"layer": ["conv1", "a.rather.long.name"]}
NUMBERS = {"std as it is": ["1.5", "2.25"], "grad": ["1.00e-07", ""], "rank": ["33.1", "4.0"]}


def shown(width: int) -> list[list[str]]:
    """The lines of each part."""
    parts = in_parts(NAMES, NUMBERS, width)
    shown = []
    for part in parts:
        console = Console(width=width, color_system=None)
        with console.capture() as capture:
            console.print(part)
        shown.append(capture.get().splitlines())
    return shown


def test_numbers_stand_in_one_table_where_there_is_room() -> None:
    (lines,) = shown(80)
    assert lines[0].split("  ")[0] == "layer"
    assert "std as it is" in lines[0]
    assert lines[2].split() == ["a.rather.long.name", "2.25", "4.0"]


@pytest.mark.parametrize("width", [10, 20, 30, 40])
def test_no_number_is_folded_however_narrow_it_is(width: int) -> None:
    parts = shown(width)
    words = [word for part in parts for line in part for word in line.split()]
    assert all(number in words for texts in NUMBERS.values() for number in texts if number)
    assert all(len(line) <= width for part in parts for line in part)


def test_each_part_has_the_names_and_titles_take_two_lines() -> None:
    first, second = shown(30)
    assert first[0].split() == ["std"]
    assert first[1].split() == ["layer", "as", "it", "is"]
    assert [line.split()[0] for line in (first[2], second[1])] == ["conv1", "conv1"]
