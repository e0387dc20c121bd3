"""Benchmark cases, measured side by side with torch."""

from pyinit.bench._activations import ActivationCase, activations, usual_activations
from pyinit.bench._case import LIBRARIES, Case, Result, measure
from pyinit.bench._convolutions import Convolution, convolutions, usual_convolutions
from pyinit.bench._fills import RESNET50, Fill, Shapes, fills
from pyinit.bench._looks import Look, Statistics, looks
from pyinit.bench._models import Model, models, usual_models

__all__ = [
    "LIBRARIES",
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
    "activations",
    "cases",
    "convolutions",
    "fills",
    "looks",
    "measure",
    "models",
    "usual_activations",
    "usual_cases",
    "usual_convolutions",
    "usual_models",
]


def usual_cases() -> list[Case]:
    """The cases that ``pyinit bench`` measures by default."""
    return [*fills(), *usual_convolutions(), *usual_activations(), *usual_models()]


def cases() -> list[Case]:
    """All cases, from which ``pyinit bench PATTERN`` chooses."""
    return [*fills(), *convolutions(), *activations(), *models(), *looks()]
