"""What no recipe knows starts as the model's own code has it, in memory and on the meta device."""

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pyinit import InitReport, initialize_, replay_
from pyinit.initializers import KEEP, OwnReset

TEXT = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Mamba": ("ForCausalLM", {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2}),
    "Rwkv": ("ForCausalLM", {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2}),
    "Swinv2": ("ForImageClassification", {**VISION, "window_size": 4}),
    "Swin": ("ForImageClassification", {**VISION, "window_size": 4}),
    "ConvNext": ("ForImageClassification", {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}),
    "Mixtral": (
        "ForCausalLM",
        {**TEXT, "intermediate_size": 64, "num_key_value_heads": 2, "num_local_experts": 4},
    ),
    "CLIP": (
        "Model",
        {
            "text_config": {**TEXT, "bos_token_id": 1, "eos_token_id": 2, "intermediate_size": 64},
            "vision_config": {
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 64,
                "image_size": 16,
                "patch_size": 4,
            },
            "logit_scale_init_value": 1.5,
        },
    ),
    "Whisper": (
        "ForConditionalGeneration",
        {
            "vocab_size": 60,
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "max_source_positions": 20,
            "max_target_positions": 20,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
    ),
    **dict.fromkeys(
        ("Bart", "Blenderbot"),  # whose constructors make a buffer of zeros
        (
            "ForConditionalGeneration",
            {
                "vocab_size": 60,
                "d_model": 16,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 2,
                "max_position_embeddings": 32,
                "pad_token_id": 1,
            },
        ),
    ),
}


def transformers_model(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    head, config = CONFIGS[kind]
    model: nn.Module = getattr(transformers, kind + head)(
        getattr(transformers, kind + "Config")(**config)
    )
    return model


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def named(model: nn.Module, *leaves: str) -> dict[str, Tensor]:
    return {
        name: p.detach().clone() for name, p in model.named_parameters() if name.endswith(leaves)
    }


# ---- Models of transformers --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("recipe", ["auto", "llama", "kaiming"])
def test_from_meta_comes_what_a_model_in_memory_gets(kind: str, recipe: str) -> None:
    model = transformers_model(kind)
    report = initialize_(model, recipe, seed=3)
    empty, again = (on_meta(lambda: transformers_model(kind)) for _ in range(2))
    torch.manual_seed(99)  # it does not count
    initialize_(empty, recipe, seed=3)
    kept = {row.name for row in report if row.is_kept}
    assert kept <= {"logit_scale", "model.encoder.embed_positions.weight"}
    tensors = dict(empty.named_parameters()) | dict(empty.named_buffers())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        assert torch.equal(tensor, tensors[name]), name
    if not kept:  # what a report does not have, a replay from meta refuses
        replay_(again, InitReport.from_dict(report.to_dict()))
        for name, tensor in model.named_parameters():
            assert torch.equal(tensor, again.get_parameter(name)), name


OWN = {
    "Mamba": ("A_log", ".D", "dt_proj.bias"),
    "Rwkv": ("time_decay", "time_first", "time_mix_key", "time_mix_value", "time_mix_receptance"),
    "Swinv2": ("logit_scale",),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("recipe", ["auto", "gpt2", "llama", "kaiming", "normal", "torch", "vit"])
def test_state_spaces_time_decays_and_temperatures_keep_what_they_are(
    kind: str, recipe: str
) -> None:
    model = transformers_model(kind)
    before = named(model, *OWN[kind])
    with torch.no_grad():
        for name in before:
            model.get_parameter(name).fill_(math.nan)
    report = initialize_(model, recipe, seed=3)
    for name, values in before.items():
        now = model.get_parameter(name).detach()
        if name.endswith("dt_proj.bias"):  # random: softplus of it is in [0.001, 0.1]
            steps = nn.functional.softplus(now)
            assert 0.0009 < steps.min() < steps.max() < 0.11
            assert steps.std() > 0.005
        else:
            assert torch.equal(now, values), name
        assert report[name].initializer == OwnReset()
        assert "own _init_weights" in report[name].why


def test_marks_of_a_loaded_checkpoint_do_not_keep_the_models_own_start_away() -> None:
    model = transformers_model("Rwkv")
    before = named(model, "time_decay")
    for p in model.parameters():
        p._is_hf_initialized = True  # type: ignore[attr-defined]  # as from_pretrained does
        nn.init.constant_(p, 7.0)
    initialize_(model, "auto", seed=3)
    for name, values in before.items():
        assert torch.equal(model.get_parameter(name), values)


def test_buffers_made_on_the_meta_device_leave_the_parameters_of_inner_modules_alone() -> None:
    empty = on_meta(lambda: transformers_model("CLIP"))
    report = initialize_(empty, "llama", seed=3)
    for name, p in empty.named_parameters():
        assert report[name].std == pytest.approx(p.std(correction=0).item(), rel=1e-4), name


# ---- Code of one's own -------------------------------------------------------------------------------


class Part(nn.Module):
    """Started by the model around it, but for a vector that nothing starts."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.empty(4, 4))
        self.halved = nn.Parameter(torch.zeros(4, 4))
        self.unknown = nn.Parameter(torch.full((2,), 5.0).cumsum(0))


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = Part()
        self.layer = nn.Linear(4, 4)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Part):
            nn.init.trunc_normal_(module.mixing, std=random.random() + np.random.rand())
            with torch.no_grad():
                module.halved[:2] = 1.0
        elif isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 9.0)


def test_a_start_of_ones_own_draws_from_the_seed_and_leaves_the_generators_as_they_were() -> None:
    def states() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    models = [Whole(), Whole()]
    before = states()
    for i, model in enumerate(models):
        report = initialize_(model, "llama", seed=3)
        assert states() == before
        random.seed(i)
        before = states()
    assert report["part.mixing"].initializer == OwnReset()
    assert 0 < models[0].part.mixing.std() < 2
    assert torch.equal(models[0].part.mixing, models[1].part.mixing)
    assert models[0].layer.weight.std() < 0.05


def test_what_nothing_starts_as_a_whole_keeps_its_values_and_is_refused_without() -> None:
    model = Whole()
    report = initialize_(model, "llama", seed=3)
    for name in ("part.halved", "part.unknown"):
        assert report[name].initializer == KEEP
        assert report[name].why == "recipe llama leaves it as it is"
    assert model.part.halved.tolist() == [[0.0] * 4] * 4
    assert model.part.unknown.tolist() == [5.0, 10.0]
    empty = on_meta(Whole)
    with pytest.raises(ValueError, match=r"^1 parameters are on the meta .*part\.unknown"):
        initialize_(empty, "llama", seed=3)
    assert all(p.is_meta for p in empty.parameters())


def test_own_reset_is_refused_where_the_model_has_none_and_nothing_is_written() -> None:
    model = nn.Linear(2, 2)
    before = named(model, "weight", "bias")
    with pytest.raises(ValueError, match=r"own_reset cannot fill weight .*no reset_parameters"):
        initialize_(model, rules={"weight": OwnReset()}, seed=0)
    assert all(torch.equal(model.get_parameter(n), v) for n, v in before.items())


class Marked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Linear(3, 3)
        nn.init.constant_(self.steps.bias, -4.0)
        self.steps.bias._no_reinit = True  # type: ignore[attr-defined]  # as state-space models do

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.softplus(self.steps(x))


@pytest.mark.parametrize("recipe", ["auto", "gpt2", "kaiming", "torch", "vit", "keras"])
def test_a_parameter_that_is_marked_as_not_to_be_reset_is_not(recipe: str) -> None:
    model = Marked()
    report = initialize_(model, recipe, seed=0)
    assert model.steps.bias.tolist() == [-4.0] * 3
    assert report["steps.bias"].initializer == KEEP


# ---- Names, where there are no values ----------------------------------------------------------------


class Named(nn.Module):
    def __init__(self, ls_init_value: float = 0.25) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((4,), ls_init_value))
        self.layer_scale = nn.Parameter(torch.full((4,), 0.5))
        for name, shape in (
            ("logit_scale", ()),
            ("temperature", (2, 1, 1)),
            ("pos_embed", (9, 16)),
        ):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


def test_names_give_values_to_what_has_none_and_change_nothing_else() -> None:
    model = Named()
    initialize_(model, "kaiming", seed=0)
    assert model.layer_scale.tolist() == [0.5] * 4
    empty = on_meta(Named)
    report = initialize_(empty, "kaiming", seed=0)
    assert empty.gamma.tolist() == [0.25] * 4
    assert report["gamma"].why == (
        "without values: as the constructor of Named has it, with its default of ls_init_value"
    )
    assert empty.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert empty.temperature.flatten().tolist() == [1.0, 1.0]
    assert 0.01 < empty.pos_embed.std() < 0.03
    assert report["pos_embed"].why == "without values: learned token or position, by its name"


class ResetByArguments(nn.Module):
    """What it starts at has to be said."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(3, 2), nn.Parameter(torch.full((4,), 7.0))

    def reset_parameters(self, std: float) -> None:
        nn.init.normal_(self.factor, 0.0, std)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) * self.factor.sum()
        return out


@pytest.mark.parametrize("recipe", ["auto", "torch"])
def test_a_reset_that_needs_arguments_is_not_called(recipe: str) -> None:
    model = ResetByArguments()
    report = initialize_(model, recipe, seed=0)
    assert report["factor"].initializer == KEEP
    assert model.factor.tolist() == [7.0] * 4
    with pytest.raises(ValueError, match="give rules for factor"):
        initialize_(on_meta(ResetByArguments), recipe, seed=0)
