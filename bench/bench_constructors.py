"""Whole models under ``pyinit.patch()`` and without: the same weights, sooner."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

import pyinit

MODELS: dict[str, Callable[[], nn.Module]] = {
    "Transformer": nn.Transformer,
    "LSTM(1024, 1024, 2)": lambda: nn.LSTM(1024, 1024, 2),
}
CLIENTS = {  # of transformers, in their default configurations
    "GPT2": "LMHeadModel",
    "Bert": "Model",
    "ViT": "Model",
    "ResNet": "Model",
}


def _client(name: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")()
    model: nn.Module = getattr(transformers, name + CLIENTS[name])(config)
    return model


@pytest.mark.parametrize("library", ["torch", "pyinit"])
@pytest.mark.parametrize("model", [*MODELS, *CLIENTS])
def bench_constructor(benchmark: BenchmarkFixture, model: str, library: str) -> None:
    benchmark.group = model
    build = MODELS.get(model) or (lambda: _client(model))
    with pyinit.patch() if library == "pyinit" else nullcontext():
        benchmark.pedantic(build, rounds=5, warmup_rounds=1)
