"""Real models: the same weights, and the same generator state after, with and without patch."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

import pyinit


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )


class VisionTransformer(nn.Module):
    """A ViT as timm writes it, as far as its weights go."""

    def __init__(self, width: int = 48, depth: int = 2, heads: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


def transformers_model(model: str, config: str, **settings: object) -> Callable[[], nn.Module]:
    """A tiny model of transformers, from its configuration; nothing is downloaded."""

    def build() -> nn.Module:
        transformers = pytest.importorskip("transformers")
        return getattr(transformers, model)(getattr(transformers, config)(**settings))

    return build


WIDTHS = {"hidden_size": 32, "intermediate_size": 64}
DEPTHS = {"num_hidden_layers": 2, "num_attention_heads": 4}
CLIENTS = {
    "transformer": lambda: nn.Transformer(32, 4, 2, 2, 64, batch_first=True),
    "lstm": lambda: nn.LSTM(40, 50, 2, bidirectional=True),
    "timm-style vit": VisionTransformer,
    "gpt2": transformers_model(
        "GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=4, vocab_size=199
    ),
    "bert": transformers_model("BertForMaskedLM", "BertConfig", vocab_size=199, **WIDTHS, **DEPTHS),
    "vit": transformers_model(
        "ViTForImageClassification", "ViTConfig", image_size=32, patch_size=8, **WIDTHS, **DEPTHS
    ),
    "resnet": transformers_model(
        "ResNetForImageClassification",
        "ResNetConfig",
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 2],
    ),
    "llama": transformers_model(
        "LlamaForCausalLM",
        "LlamaConfig",
        vocab_size=199,
        num_key_value_heads=2,
        **WIDTHS,
        **DEPTHS,
    ),
}
HUGGING_FACE = ["gpt2", "bert", "vit", "resnet", "llama"]


def built(client: str, seed: int = 1) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(seed)
    return CLIENTS[client]().state_dict(), torch.get_rng_state()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("client", CLIENTS)
def test_patched_model_has_the_same_bits_and_leaves_the_same_state(client, dtype):
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        expected, expected_state = built(client)
        with pyinit.patch():
            weights, state = built(client)
    finally:
        torch.set_default_dtype(usual)
    assert list(weights) == list(expected)
    differing = [name for name in weights if not torch.equal(weights[name], expected[name])]
    assert differing == []
    assert torch.equal(state, expected_state)


@pytest.mark.parametrize("client", CLIENTS)
def test_patched_model_is_filled_by_pyinit(client):
    """With other numbers than torch's, it shows."""
    expected, _ = built(client)
    with pyinit.patch("philox"):
        weights, _ = built(client)
    assert any(not torch.equal(weights[name], expected[name]) for name in weights)


@pytest.mark.parametrize("client", HUGGING_FACE)
def test_every_random_weight_of_transformers_is_pyinits(client, monkeypatch):
    """With philox a tensor's numbers do not depend on torch's normal_ or uniform_ at all."""
    built(client)  # what the library does on the first use is not counted
    used = []
    for name in ("normal_", "uniform_"):
        method = getattr(Tensor, name)

        def recorded(tensor, *args, method=method, **kwargs):
            used.append(method)
            return method(tensor, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, recorded)
    built(client)
    assert used
    used.clear()
    with pyinit.patch("philox"):
        built(client)
    assert used == []


ORDERS = {
    "before": "import transformers.modeling_utils, pyinit; pyinit.patch('philox')",
    "after": "import pyinit; pyinit.patch('philox'); import transformers.modeling_utils",
}
CHECK = """
import sys, torch
from transformers import initialization
from transformers.initialization import guard_torch_init_functions, no_init_weights

def drawn(module):
    torch.manual_seed(1)
    return module.normal_(torch.empty(20))

assert torch.equal(drawn(initialization), drawn(pyinit))
with guard_torch_init_functions():
    assert torch.nn.init.normal_ is initialization.normal_
    assert torch.equal(drawn(torch.nn.init), drawn(pyinit))
with no_init_weights():
    assert torch.nn.init.normal_(torch.zeros(3)) is None
assert torch.equal(drawn(torch.nn.init), drawn(pyinit))

pyinit.unpatch()
by_torch = torch.manual_seed(1) and torch.empty(20).normal_()
assert torch.equal(drawn(initialization), by_torch)
assert initialization.TORCH_INIT_FUNCTIONS["normal_"] is torch.nn.init.normal_
with guard_torch_init_functions():
    pyinit.patch("philox")
    assert torch.equal(drawn(torch.nn.init), drawn(pyinit))
    pyinit.unpatch()
    assert torch.equal(drawn(torch.nn.init), by_torch)
assert torch.equal(drawn(torch.nn.init), by_torch)
"""


@pytest.mark.parametrize("order", ORDERS)
def test_transformers_works_in_both_import_orders_and_with_its_own_swapping(order):
    pytest.importorskip("transformers")
    result = subprocess.run(
        [sys.executable, "-c", ORDERS[order] + CHECK],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (0, "")
