"""The table of a report: repeated blocks stand in one line."""

import pytest
import torch
from torch import Tensor

from pyinit.reports.table import Line, Pooled, grouped


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
