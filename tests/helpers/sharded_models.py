"""Models that are written shard by shard, the shards of a folder, and what they should hold."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from pyinit.distributed.plan import Plan, plan_shards
from pyinit.models import build


class Mixed(nn.Module):
    """What only modules' own code starts, buffers of two dtypes, padding, gates, and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.words = nn.Embedding(9, 6, padding_idx=2)
        self.lstm = nn.LSTM(6, 5, num_layers=2)
        self.own = Own()
        self.normed = parametrizations.weight_norm(nn.Linear(5, 7))
        self.spectral = parametrizations.spectral_norm(nn.Linear(7, 6))
        self.head = nn.Linear(6, 9)
        self.head.weight = self.words.weight


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(4, 3))
        self.shift = nn.Parameter(torch.empty(5))
        self.inner = nn.Linear(3, 3)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.scale.normal_()
        self.inner.reset_parameters()
        self.shift.uniform_()


SMALL: dict[str, dict[str, Any]] = {
    "lenet5": {},
    "resnet50": {"blocks": (1, 1), "width": 8, "classes": 10},
    "gpt2": {"vocab": 97, "context": 16, "width": 32, "layers": 2, "heads": 2},
    "llama-1b": {
        "vocab": 97,
        "width": 32,
        "hidden": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
    },
    "vit-b16": {"image": 32, "width": 48, "layers": 2, "heads": 3, "hidden": 96},
}


def made(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A small model of that name, in memory or wherever torch's default device is."""
    return Mixed().to(dtype) if name == "mixed" else build(name, dtype, **SMALL[name])


def planned(
    name: str,
    recipe: str = "auto",
    seed: int = 3,
    shards: int = 4,
    dtype: torch.dtype = torch.float32,
) -> Plan:
    with torch.device("meta"):
        model = made(name, dtype)
    return plan_shards(model, recipe, seed, shards, name)


def held(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder of shards, as the safetensors library reads them."""
    return {
        name: tensor
        for path in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
