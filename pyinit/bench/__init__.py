"""Benchmark cases, measured side by side with torch, and convolutions also with other libraries."""

from pyinit.bench._activations import ActivationCase, activations, usual_activations
from pyinit.bench._case import LIBRARIES, Case, Result, measure
from pyinit.bench._convolutions import Convolution, convolutions, usual_convolutions
from pyinit.bench._fills import RESNET50, Fill, Shapes, fills
from pyinit.bench._looks import Look, Statistics, looks
from pyinit.bench._models import Model, models, usual_models
from pyinit.bench._peers import PEERS, versions
from pyinit.bench._steps import Step, steps

__all__ = [
    "LIBRARIES",
    "PEERS",
    "RESNET50",
    "ActivationCase",
    "Case",
    "Convolution",
    "Fill",
    "Look",
    "Model",
    "Result",
    "Shapes",
    "Statistics",
    "Step",
    "activations",
    "cases",
    "convolutions",
    "fills",
    "looks",
    "measure",
    "models",
    "steps",
    "usual_activations",
    "usual_cases",
    "usual_convolutions",
    "usual_models",
    "versions",
]


def usual_cases() -> list[Case]:
    """The cases that ``pyinit bench`` measures by default."""
    return [
        *fills(),
        *usual_convolutions(),
        *usual_activations(),
        *steps(),
        *usual_models(),
    ]


def cases() -> list[Case]:
    """All cases, from which ``pyinit bench PATTERN`` chooses."""
    return [*fills(), *convolutions(), *activations(), *steps(), *models(), *looks()]
