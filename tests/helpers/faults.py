"""Networks with faults and without, and the kinds of faults that an inspection finds."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

import pyinit
from pyinit.inspection.diagnosis import Diagnosis


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Normal random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def deep(
    activation: type[nn.Module], recipe: str, depth: int = 20, width: int = 64
) -> nn.Sequential:
    """A plain network of linear layers and activations, and a head for 10 classes."""
    parts = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    model = nn.Sequential(*parts, nn.Linear(width, 10))
    pyinit.initialize_(model, recipe, seed=0)
    return model


X, Y = numbers(128, 64), torch.arange(128) % 10


def kinds(findings: Iterable[Diagnosis]) -> set[str]:
    """What kinds of faults there are."""
    return {finding.kind for finding in findings}


def the(kind: str, report: pyinit.Inspection) -> Diagnosis:
    """The one fault of a kind."""
    (found,) = (finding for finding in report.findings if finding.kind == kind)
    return found
