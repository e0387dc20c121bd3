"""The built-in architectures."""

from typing import Any

import pytest
import torch
from torch import nn

import pyinit
from pyinit.models import MODELS, build
from pyinit.models.llama import rotary_table, rotate

PARAMETERS = {
    "gpt2": 124_439_808,
    "lenet5": 61_706,
    "resnet50": 25_557_032,
    "vit-b16": 86_567_656,
    "llama-1b": 1_235_814_400,
}
TENSORS = {"gpt2": 148, "lenet5": 10, "resnet50": 161, "vit-b16": 152, "llama-1b": 146}
NAMES = {
    "gpt2": ("transformer.h.11.attn.c_attn.bias", (2304,)),
    "lenet5": ("conv2.weight", (16, 6, 5, 5)),
    "resnet50": ("layer4.0.downsample.1.running_var", (2048,)),
    "vit-b16": ("encoder.layers.encoder_layer_11.mlp.3.weight", (768, 3072)),
    "llama-1b": ("model.layers.15.self_attn.k_proj.weight", (512, 2048)),
}
# What a recipe may leave as it is: it belongs to no layer.
ZERO_AS_CONSTRUCTED = {"vit-b16": {"class_token", "encoder.pos_embedding"}}
# Recipes that refuse a network without what they are for.
FOR_OTHER_NETWORKS = {"fixup", "mimetic", "mup", "rezero", "skipinit"}
TINY: dict[str, dict[str, Any]] = {
    "gpt2": {"vocab": 11, "context": 8, "width": 16, "layers": 2, "heads": 4},
    "lenet5": {"channels": 3, "classes": 5},
    "resnet50": {"blocks": (1, 2), "width": 4, "classes": 5},
    "vit-b16": {
        "image": 16,
        "patch": 8,
        "width": 16,
        "layers": 2,
        "heads": 4,
        "hidden": 24,
        "classes": 5,
    },
    "llama-1b": {
        "vocab": 11,
        "width": 16,
        "hidden": 24,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
    },
}


def tiny(name: str) -> nn.Module:
    model = build(name, **TINY[name])
    pyinit.initialize_(model, "torch", seed=1)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_published_size_and_names(name: str) -> None:
    with torch.device("meta"):
        model = MODELS[name]()
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) == PARAMETERS[name]
    assert len(parameters) == TENSORS[name]
    tensor, shape = NAMES[name]
    assert model.state_dict()[tensor].shape == shape


@pytest.mark.parametrize("name", ["gpt2", "llama-1b"])
def test_language_model_gives_causal_logits(name: str) -> None:
    model = tiny(name)
    tokens = torch.randint(11, (2, 7))
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 11
    with torch.no_grad():
        logits, other = model(tokens), model(changed)
    assert logits.shape == (2, 7, 11)
    assert torch.allclose(logits[:, :-1], other[:, :-1], atol=1e-5)
    assert not torch.allclose(logits[:, -1], other[:, -1], atol=1e-3)


@pytest.mark.parametrize(("name", "side"), [("lenet5", 28), ("resnet50", 32), ("vit-b16", 16)])
def test_image_model_gives_logits(name: str, side: int) -> None:
    with torch.no_grad():
        assert tiny(name)(torch.randn(3, 3, side, side)).shape == (3, 5)


def test_lenet5_has_the_published_maps() -> None:
    """LeCun et al. 1998, figure 2, and the numbers of its text where all of its maps are connected."""
    sizes = {}
    model = tiny("lenet5")
    for name, layer in model.named_children():
        layer.register_forward_hook(
            lambda _, __, y, name=name: sizes.update({name: (*y.shape[1:],)})
        )
    with torch.no_grad():
        model(torch.randn(2, 3, 28, 28))
    assert sizes == {
        "conv1": (6, 28, 28),
        "conv2": (16, 10, 10),
        "fc1": (120,),
        "fc2": (84,),
        "fc3": (5,),
    }


def test_rotary_scores_depend_on_distance_only() -> None:
    cos, sin = rotary_table(9, 8, torch.device("cpu"))
    q, k = (rotate(torch.randn(8).expand(9, 8), cos, sin) for _ in range(2))
    scores = q @ k.T
    for distance in range(9):
        band = scores.diagonal(distance)
        assert torch.allclose(band, band[:1].expand_as(band), atol=1e-4)


@pytest.mark.parametrize("recipe", sorted(pyinit.recipes().keys() - FOR_OTHER_NETWORKS))
@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_is_covered(name: str, recipe: str) -> None:
    model = build(name, **TINY[name])
    buffers = {key: buffer.clone() for key, buffer in model.named_buffers()}
    rows = pyinit.initialize_(model, recipe, seed=0, dry_run=True)
    kept = {row.name for row in rows if row.is_kept}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key not in kept:
                parameter.fill_(torch.nan)
    pyinit.initialize_(model, recipe, seed=0)
    assert kept <= ZERO_AS_CONSTRUCTED.get(name, set())
    assert not any(model.get_parameter(key).any() for key in kept)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(torch.equal(buffer, buffers[key]) for key, buffer in model.named_buffers())


@pytest.mark.parametrize("name", MODELS)
def test_build_leaves_out_nothing_but_the_draws(name: str) -> None:
    state = torch.get_rng_state()
    built = build(name, **TINY[name])
    assert torch.equal(state, torch.get_rng_state())
    usual = MODELS[name](**TINY[name])
    assert {k: b.tolist() for k, b in built.named_buffers()} == {
        k: b.tolist() for k, b in usual.named_buffers()
    }
    assert [(k, p.shape) for k, p in built.named_parameters()] == [
        (k, p.shape) for k, p in usual.named_parameters()
    ]


def test_build_makes_parameters_and_buffers_of_the_dtype() -> None:
    model = build("resnet50", torch.bfloat16, **TINY["resnet50"])
    floating = [t for t in model.state_dict().values() if t.is_floating_point()]
    assert {t.dtype for t in floating} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("name", "config"), [("gpt2", {"heads": 7}), ("llama-1b", {"heads": 4, "kv_heads": 3})]
)
def test_heads_that_do_not_divide_are_refused(name: str, config: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="heads"), torch.device("meta"):
        MODELS[name](**config)


def test_vit_resets_what_belongs_to_no_layer() -> None:
    model = tiny("vit-b16")
    assert not model.get_parameter("class_token").any()
    positions = model.get_parameter("encoder.pos_embedding")
    assert positions.std().item() == pytest.approx(0.02, rel=0.3)
