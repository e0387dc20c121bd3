"""Transformers' own initialization, keyed, and its marks of what is initialized."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from on_ranks import on_ranks
from torch import nn

import pyinit
from pyinit._torch.initialized_flags import clear_initialized, is_initialized

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers", minversion="5")

WIDTHS = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
DEPTH = {"num_hidden_layers": 2}
WORDS = {"vocab_size": 99}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "GPT2LMHeadModel": (
        "GPT2Config",
        {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 16, **WORDS},
    ),
    "BertForMaskedLM": ("BertConfig", {**WORDS, **WIDTHS, **DEPTH}),
    "RobertaForMaskedLM": ("RobertaConfig", {**WORDS, **WIDTHS, **DEPTH}),
    "LlamaForCausalLM": ("LlamaConfig", {"num_key_value_heads": 1, **WORDS, **WIDTHS, **DEPTH}),
    "MixtralForCausalLM": (
        "MixtralConfig",
        {"num_key_value_heads": 1, "num_local_experts": 2, **WORDS, **WIDTHS, **DEPTH},
    ),
    "T5ForConditionalGeneration": (
        "T5Config",
        {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, **WORDS},
    ),
    "ViTForImageClassification": (
        "ViTConfig",
        {"image_size": 16, "patch_size": 8, **WIDTHS, **DEPTH},
    ),
    "ResNetForImageClassification": (
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    ),
    "SwinModel": (
        "SwinConfig",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 2,
        },
    ),
}
SMALL = ["GPT2LMHeadModel", "RobertaForMaskedLM", "T5ForConditionalGeneration"]


def build(name: str) -> Any:
    config, settings = CONFIGS[name]
    transformers.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(transformers, name)(getattr(transformers, config)(**settings))


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def spoil(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize("name", CONFIGS)
def test_its_models_are_keyed_whole(name: str) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = build(name)  # it is marked as initialized from here on
        spoil(model)
        state = torch.get_rng_state()
        with pyinit.keyed(model, 7, strict=True):
            model.init_weights()
        assert torch.equal(torch.get_rng_state(), state)
        assert all(map(is_initialized, model.parameters()))
        found.append(values(model))
    assert not differing(*found)
    assert not [name for name, value in found[0].items() if not value.isfinite().all()]


@pytest.mark.parametrize("name", SMALL)
def test_the_values_are_of_the_distributions_that_it_draws(name: str) -> None:
    model = build(name)
    clear_initialized(model)
    model.init_weights()
    usual = values(model)
    with pyinit.keyed(model, 7):
        model.init_weights()
    for parameter, value in values(model).items():
        expected = usual[parameter]
        assert torch.equal(value == 0, expected == 0), parameter
        if value.numel() > 100:
            assert value.std() == pytest.approx(expected.std().item(), rel=0.3, abs=1e-3), parameter


@pytest.mark.parametrize("patched", [False, True], ids=["", "patched"])
@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.init_weights(),
        lambda model: model.initialize_weights(),
        lambda model: model.apply(model._init_weights),
        lambda model: model.apply(model._initialize_weights),
    ],
    ids=["init_weights", "initialize_weights", "_init_weights", "_initialize_weights"],
)
def test_a_second_block_is_as_the_first(call: Callable[[Any], object], patched: bool) -> None:
    model = build("GPT2LMHeadModel")
    try:
        if patched:
            pyinit.patch()
        found = []
        for _ in range(2):
            spoil(model)
            with pyinit.keyed(model, 7, strict=True):
                call(model)
            found.append(values(model))
    finally:
        pyinit.unpatch()
    assert not differing(*found)


def test_without_keyed_an_eager_model_stays_as_it_is() -> None:
    """Why the marks are taken away first: transformers' init_weights does nothing a second time."""
    model = build("GPT2LMHeadModel")
    before = values(model)
    model.init_weights()
    assert not differing(values(model), before)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("how", ["keyed", "initialize_"])
def test_what_is_filled_is_left_alone_by_transformers(name: str, how: str) -> None:
    with torch.device("meta"):
        model = build(name)
    model.to_empty(device="cpu")
    model.tie_weights()
    if how == "keyed":
        with pyinit.keyed(model, 7):
            model.init_weights()
    else:
        pyinit.initialize_(model, seed=7)
    before = values(model)
    for module in model.modules():
        vars(module).pop("_is_hf_initialized", None)
    model.initialize_weights()
    assert not differing(values(model), before)


def test_from_pretrained_leaves_them_alone(tmp_path: Any) -> None:
    model = build("GPT2LMHeadModel")
    with pyinit.keyed(model, 7):
        model.init_weights()
    model.save_pretrained(tmp_path)
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    assert not differing(values(again), values(model))
    with pyinit.keyed(again, 8, strict=True):  # what was loaded is marked, too
        again.init_weights()
    assert differing(values(again), values(model))


def sharded(name: str) -> dict[str, torch.Tensor]:
    """All values of a model that is spread by fully_shard before it has memory."""
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    with torch.device("meta"):
        model = build(name)
    for (
        child
    ) in model.children():  # transformers takes the class that fully_shard makes for custom code
        fully_shard(child)
    model.to_empty(device="cpu")
    torch.manual_seed(torch.distributed.get_rank())
    with pyinit.keyed(model, 7, strict=True):
        model.init_weights()
    assert all(map(is_initialized, model.parameters()))
    return {parameter: value.full_tensor() for parameter, value in values(model).items()}


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "MixtralForCausalLM"])
def test_sharded_models_have_the_values_of_plain_ones(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
    model.to_empty(device="cpu")
    with pyinit.keyed(model, 7, strict=True):
        model.init_weights()
    for found in on_ranks(sharded, 2, name):
        assert not differing(found, values(model))
