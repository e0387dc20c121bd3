"""Initializations that people use come out clean, or with findings for information alone."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import pyinit
from pyinit.inspection.check import Init
from pyinit.models.gpt2 import GPT2
from pyinit.models.llama import Llama
from pyinit.models.resnet import ResNet
from pyinit.models.vit import VisionTransformer

MODELS: dict[str, Callable[[], nn.Module]] = {
    "gpt2": lambda: GPT2(vocab=128, width=64, layers=4, heads=4, context=32),
    "llama": lambda: Llama(
        vocab=128, width=64, hidden=128, layers=4, heads=4, kv_heads=2, head_dim=16
    ),
    "resnet": lambda: ResNet(blocks=(1, 1, 1, 1), width=16, classes=10),
    "vit": lambda: VisionTransformer(
        image=32, patch=8, width=64, layers=4, heads=4, hidden=128, classes=10
    ),
}
# For models that these have not the parts for: scalars of branches, a narrower model beside it.
NOT_FOR_THEM = {"rezero", "skipinit", "mup"}


def in_dtype(build: Callable[[], nn.Module], dtype: torch.dtype) -> Callable[[], nn.Module]:
    def built() -> nn.Module:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            return build()
        finally:
            torch.set_default_dtype(before)

    return built


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_torchs_own_defaults(model: str, dtype: torch.dtype) -> None:
    findings = pyinit.check(in_dtype(MODELS[model], dtype))
    assert not findings.failures, findings


@pytest.mark.parametrize("recipe", sorted(set(pyinit.recipes()) - NOT_FOR_THEM))
@pytest.mark.parametrize("model", MODELS)
def test_built_in_recipes(model: str, recipe: str) -> None:
    if (model, recipe) == ("resnet", "mimetic"):
        pytest.skip("it is for attention")
    findings = pyinit.check(
        MODELS[model], lambda network: pyinit.initialize_(network, recipe, seed=0)
    )
    assert not findings.failures, findings


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10)),
    "lstm": lambda: nn.LSTM(64, 128, 2, bidirectional=True),
    "gru": lambda: nn.GRU(64, 128),
    "attention": lambda: nn.MultiheadAttention(64, 4, add_bias_kv=True),
    "transformer": lambda: nn.Transformer(32, 4, 2, 2, 64, batch_first=True),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(8, 16, 4, 2, groups=2), nn.PReLU()),
    "embedding": lambda: nn.Sequential(nn.Embedding(100, 32, padding_idx=0), nn.Linear(32, 100)),
    "bilinear": lambda: nn.Bilinear(16, 16, 16),
    "parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(32, 32)),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(32, 32)),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(32, 32)),
    "tiny": lambda: nn.Sequential(nn.Linear(1, 1), nn.Tanh(), nn.Linear(1, 2)),
    "deep": lambda: nn.Sequential(
        *(part for _ in range(20) for part in (nn.Linear(100, 100), nn.Tanh()))
    ),
    "no elements": lambda: nn.Linear(0, 3),
    "nothing": nn.Identity,
}


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_torchs_own_layers(layers: str) -> None:
    findings = pyinit.check(LAYERS[layers])
    assert not findings.failures, findings


def transformers_models() -> dict[str, Callable[[], nn.Module]]:
    t = pytest.importorskip("transformers")
    small = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    bert = t.BertConfig(**small, intermediate_size=128, vocab_size=128)
    llama = t.LlamaConfig(**small, intermediate_size=128, num_key_value_heads=2, vocab_size=128)
    vit = t.ViTConfig(**small, intermediate_size=128, image_size=32, patch_size=8)
    gpt2 = t.GPT2Config(
        n_embd=64, n_layer=4, n_head=4, vocab_size=128, bos_token_id=1, eos_token_id=1
    )
    t5 = t.T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=4, num_heads=4, vocab_size=128)
    mamba = t.MambaConfig(hidden_size=64, num_hidden_layers=4, vocab_size=128, state_size=8)
    return {
        "gpt2": lambda: t.GPT2LMHeadModel(gpt2),
        "llama": lambda: t.LlamaForCausalLM(llama),
        "vit": lambda: t.ViTForImageClassification(vit),
        "t5": lambda: t.T5ForConditionalGeneration(t5),
        "bert": lambda: t.BertForMaskedLM(bert),
        "mamba": lambda: t.MambaForCausalLM(mamba),
    }


@pytest.mark.parametrize("init", [None, "init_weights", pyinit.initialize_])
@pytest.mark.parametrize("model", ["gpt2", "llama", "vit", "t5", "bert", "mamba"])
def test_models_of_transformers(model: str, init: Init | None) -> None:
    findings = pyinit.check(transformers_models()[model], init)
    assert not findings.failures, findings
