"""Pretrained weights in models: what is loaded, adapted, initialized, reported and refused."""

import json
import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bits import same_bits
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.testing._internal.two_tensor import TwoTensor

from pyinit.pretrained.adapt import resized_positions, with_channels
from pyinit.pretrained.checkpoint import open_source
from pyinit.pretrained.load import load_pretrained_
from pyinit.reports.loading import LoadReport
from pyinit.whole_model.recipes import recipe


class Net(nn.Module):
    """A stem, a norm with buffers, two layers, a head."""

    def __init__(self, channels: int = 3, width: int = 6, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Sequential(nn.Conv2d(width, width, 3), nn.Linear(width, width))
        self.head = nn.Linear(width, classes)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all values, with the norm's buffers other than at the start."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def pretrained(*args: int) -> dict[str, Tensor]:
    state = state_of(Net(*args))
    state["norm.running_mean"] += 3
    state["norm.num_batches_tracked"] += 5
    return state


def assert_same(model: nn.Module, state: dict[str, Tensor], but: tuple[str, ...] = ()) -> None:
    for name, value in model.state_dict().items():
        if name not in but:
            assert torch.equal(value, state[name]), name


def load(model: nn.Module, source: Any, **options: Any) -> LoadReport:
    return load_pretrained_(model, source, **{"init_missing": "torch", "seed": 1} | options)


# ---- Loading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mapping", "safetensors", "pt", "before 1.6", "shards"])
def test_all_values_come_from_the_source(kind: str, tmp_path: Path) -> None:
    state = pretrained()
    source: Any = state
    if kind == "safetensors":
        save_file(state, source := tmp_path / "w.safetensors")
    elif kind == "shards":
        source = tmp_path
        for i, name in enumerate(state):
            save_file({name: state[name]}, tmp_path / f"{i}.safetensors")
    elif kind != "mapping":
        source = tmp_path / "w.pt"
        torch.save(state, source, _use_new_zipfile_serialization=kind == "pt")
    model = Net()
    parameters = list(model.parameters())
    report = load(model, source, strict=True)
    assert_same(model, state)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert set(report.loaded) == set(state)
    assert report.coverage == 100
    assert not any((report.missing, report.unexpected, report.mismatched, report.adapted))
    assert report.initialized is None


def test_nothing_is_drawn_where_nothing_is_missing() -> None:
    state, model = pretrained(), Net()
    before = torch.get_rng_state()
    load_pretrained_(model, state, init_missing="torch")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_values_are_converted_to_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    state, model = pretrained(), Net().to(dtype)
    load(model, state)
    assert_same(model, {k: v.to(model.state_dict()[k].dtype) for k, v in state.items()})


def test_memory_layout_of_the_model_stays() -> None:
    state = pretrained()
    model = Net().to(memory_format=torch.channels_last)
    strides = [p.stride() for p in model.parameters()]
    load(model, state)
    assert_same(model, state)
    assert strides == [p.stride() for p in model.parameters()]


def test_what_autograd_saved_before_is_known_to_be_out_of_date() -> None:
    model = nn.Linear(3, 3)
    loss = model(model(torch.ones(3))).sum()
    load(model, {"weight": torch.ones(3, 3), "bias": torch.ones(3)})
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_wrapped_and_renamed_names() -> None:
    state = pretrained()
    source = {"state_dict": {f"module.{k.replace('body', 'trunk')}": v for k, v in state.items()}}
    model = Net()
    report = load(model, source, rename=[("trunk", "body")], strict=True)
    assert_same(model, state)
    assert report.source == "state dict['state_dict']"


def test_prefix_takes_a_part_of_the_source() -> None:
    state = pretrained()
    source = {f"backbone.{k}": v for k, v in state.items()} | {"neck.weight": torch.ones(3)}
    model = Net()
    report = load(model, source, prefix="backbone.")
    assert_same(model, state)
    assert report.unexpected == ()


def test_tied_parameters_need_one_name(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50, n_positions=16)
    source, model = (transformers.GPT2LMHeadModel(config) for _ in range(2))
    save_model(source, str(tmp_path / "w.safetensors"))
    with open_source(tmp_path / "w.safetensors") as checkpoint:
        stored = {"lm_head.weight", "transformer.wte.weight"} & set(checkpoint.keys())
    assert len(stored) == 1
    report = load(model, tmp_path / "w.safetensors", strict=True)
    assert_same(model, state_of(source))
    assert model.lm_head.weight is model.transformer.wte.weight
    assert report.coverage == 100
    assert report.missing == ()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight


def test_tied_parameters_of_which_both_names_are_there() -> None:
    values = torch.randn(3, 3)
    values[0, 0] = torch.nan
    model = Tied()
    report = load(model, {"a.weight": values, "b.weight": values.clone()}, strict=True)
    assert report.loaded == ("a.weight",)
    assert report.nonfinite == {"a.weight": 1}


def test_other_values_for_tied_parameters_are_refused() -> None:
    model = Tied()
    with pytest.raises(ValueError, match=r"'a\.weight' and 'b\.weight' of the source differ"):
        load(model, {"a.weight": torch.ones(3, 3), "b.weight": torch.zeros(3, 3)})


def test_parametrized_weights_go_by_their_own_names() -> None:
    source, model = (parametrizations.weight_norm(nn.Linear(4, 3)) for _ in range(2))
    report = load(model, source.state_dict(), strict=True)
    assert_same(model, state_of(source))
    assert torch.equal(model.weight, source.weight)
    assert "parametrizations.weight.original0" in report.loaded


# ---- What the source lacks -----------------------------------------------------------------------


def test_what_is_missing_is_initialized_and_all_else_has_the_values_of_the_source() -> None:
    state = pretrained()
    for name in ("body.1.weight", "body.1.bias"):
        del state[name]
    model, before = Net(), None
    before = state_of(model)
    report = load(model, state, init_missing=recipe("normal", std=0.5))
    new = ("body.1.weight", "body.1.bias")
    assert_same(model, state, but=new)
    assert not torch.equal(model.body[1].weight, before["body.1.weight"])
    assert report.missing == report.reinitialized == new
    assert [row.name for row in report.initialized] == list(new)
    assert report.coverage == pytest.approx(
        100 * (1 - 42 / sum(p.numel() for p in model.parameters()))
    )


def test_a_seed_gives_what_is_missing_the_values_of_its_names() -> None:
    state = pretrained()
    del state["body.1.weight"]
    models = Net(), Net()
    for model in models:
        load(model, state, seed=7)
    assert torch.equal(models[0].body[1].weight, models[1].body[1].weight)


def test_missing_parameters_are_left_alone_if_no_recipe_is_given() -> None:
    state = pretrained()
    del state["body.1.weight"]
    model = Net()
    before = state_of(model)
    report = load(model, state, init_missing=None)
    assert torch.equal(model.body[1].weight, before["body.1.weight"])
    assert (report.missing, report.reinitialized) == (("body.1.weight",), ())


def test_buffers_of_the_source_are_not_reset_with_what_is_missing() -> None:
    state = pretrained()
    del state["norm.weight"]
    model = Net()
    load(model, state)
    assert_same(model, state, but=("norm.weight",))
    assert torch.equal(model.norm.weight, torch.ones(6))


def test_a_half_missing_parametrized_weight_keeps_what_the_source_has() -> None:
    source, model = (parametrizations.weight_norm(nn.Linear(4, 3)) for _ in range(2))
    state = state_of(source)
    missing = "parametrizations.weight.original0"
    del state[missing]
    report = load(model, state)
    assert_same(model, state, but=(missing,))
    assert report.missing == (missing,)


def test_a_model_on_the_meta_device_gets_memory_and_values() -> None:
    state = pretrained()
    del state["body.1.weight"]
    with torch.device("meta"):
        model = Net()
    report = load(model, state)
    assert_same(model, state, but=("body.1.weight",))
    assert model.body[1].weight.std() > 0
    assert report.reinitialized == ("body.1.weight",)


def test_missing_buffers_on_the_meta_device_are_reset_as_their_module_does_it() -> None:
    state = pretrained()
    del state["norm.running_var"]
    with torch.device("meta"):
        model = Net()
    report = load(model, state, init_missing=None)
    assert_same(model, state, but=("norm.running_var",))
    assert torch.equal(model.norm.running_var, torch.ones(6))
    assert report.missing == ("norm.running_var",)


def test_a_half_missing_parametrized_weight_on_the_meta_device_is_refused() -> None:
    state = state_of(parametrizations.weight_norm(nn.Linear(4, 3)))
    del state["parametrizations.weight.original0"]
    with torch.device("meta"):
        model = parametrizations.weight_norm(nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"without values.*: parametrizations\.weight\.original0"):
        load(model, state)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_a_transformers_model_on_the_meta_device(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        vocab_size=40,
    )
    source = transformers.LlamaForCausalLM(config)
    save_file(state_of(source), tmp_path / "w.safetensors")
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    load(model, tmp_path / "w.safetensors", strict=True)
    tokens = torch.arange(10)[None]
    assert torch.equal(model(tokens).logits, source(tokens).logits)


# ---- Other shapes --------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("new", [1, 2, 3, 4, 7, 9])
def test_the_stem_keeps_its_response_to_channels_that_are_alike(old: int, new: int) -> None:
    weight = torch.randn(5, old, 3, 2)
    adapted = with_channels(weight, new)
    assert adapted.shape == (5, new, 3, 2)
    torch.testing.assert_close(adapted.sum(1), weight.sum(1), rtol=0, atol=1e-6)


def test_stems_from_colours() -> None:
    weight = torch.randn(2, 3, 1, 1)
    r, g, b = weight.unbind(1)
    for expected in ([r + g + b], [r + b, g], [r / 2, g, b, r / 2], [r / 2, g / 2, b / 2] * 2):
        adapted = with_channels(weight, len(expected))
        torch.testing.assert_close(adapted, torch.stack(expected, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_summed_as_float32(dtype: torch.dtype) -> None:
    weight = torch.randn(4, 100, 1).to(dtype)
    expected = weight.double().sum(1, keepdim=True)
    torch.testing.assert_close(with_channels(weight, 1).double(), expected, rtol=0, atol=1e-5)


def test_the_stem_is_adapted_to_other_channels() -> None:
    state, model = pretrained(3), Net(1)
    report = load(model, state)
    assert_same(model, state, but=("stem.weight",))
    torch.testing.assert_close(model.stem.weight.data, state["stem.weight"].sum(1, keepdim=True))
    assert report.adapted == (("stem.weight", (6, 3, 3, 3), (6, 1, 3, 3), "3 to 1 input channels"),)
    assert report.coverage == 100
    assert report.initialized is None


def test_a_grouped_or_wider_stem_is_not_adapted() -> None:
    for source, target in (
        (nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(8, 4, 3, groups=2)),
        (nn.Conv2d(3, 4, 3), nn.Conv2d(1, 8, 3)),
        (nn.Conv2d(3, 4, 3), nn.Conv2d(1, 4, 5)),
        (nn.ConvTranspose2d(4, 3, 3), nn.ConvTranspose2d(4, 2, 3)),
    ):
        report = load(target, source.state_dict(), allow_empty=True)
        assert "weight" in [row.name for row in report.mismatched]
        assert report.adapted == ()


def test_only_the_first_convolution_is_a_stem() -> None:
    source = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3))
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3))
    report = load(model, source.state_dict())
    assert [row.name for row in report.mismatched] == ["0.weight", "0.bias", "1.weight"]
    assert report.adapted == ()


@pytest.mark.parametrize("conv", [False, True])
def test_the_head_is_made_anew(conv: bool) -> None:
    def net(classes: int) -> nn.Module:
        last = nn.Conv2d(4, classes, 1) if conv else nn.Linear(4, classes)
        return nn.Sequential(nn.Conv2d(3, 4, 3), last)

    source, model = net(10), net(3)
    report = load(model, source.state_dict(), init_missing="zero")
    assert [(row.name, row.how) for row in report.adapted] == [
        (name, "head of 3 outputs instead of 10, made anew") for name in ("1.weight", "1.bias")
    ]
    assert report.reinitialized == ("1.weight", "1.bias")
    assert not model[1].bias.any()
    assert torch.equal(model[0].weight, source[0].weight)
    assert report.mismatched == ()


def test_what_is_not_to_be_adapted_is_mismatched() -> None:
    report = load(Net(1, 6, 3), pretrained(3, 6, 10), adapt=())
    assert [row.name for row in report.mismatched] == ["stem.weight", "head.weight", "head.bias"]
    assert report.adapted == ()
    assert report.reinitialized == ("stem.weight", "head.weight", "head.bias")


def cubic(x: float) -> float:
    """Keys 1981, a = -0.5, as in Pillow."""
    x, a = abs(x), -0.5
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def resampling(old: int, new: int) -> np.ndarray:
    """The matrix of an antialiased bicubic resize."""
    scale = old / new
    width = max(scale, 1.0)
    matrix = np.array(
        [[cubic((j + 0.5 - (i + 0.5) * scale) / width) for j in range(old)] for i in range(new)]
    )
    return matrix / matrix.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [((3, 3), (5, 5)), ((4, 4), (4, 4)), ((6, 6), (3, 3)), ((7, 3), (2, 5)), ((4, 4), (2, 8))],
)
@pytest.mark.parametrize("tokens", [0, 1, 2])
@pytest.mark.parametrize("lead", [(), (1,)])
def test_positions_are_interpolated_bicubically(
    old: tuple[int, int], new: tuple[int, int], tokens: int, lead: tuple[int, ...]
) -> None:
    table = torch.randn(*lead, tokens + old[0] * old[1], 5)
    resized = resized_positions(table, tokens, old, new)
    assert resized.shape == (*lead, tokens + new[0] * new[1], 5)
    rows, result = table.reshape(-1, 5), resized.reshape(-1, 5)
    assert torch.equal(result[:tokens], rows[:tokens])
    height, width = (resampling(a, b) for a, b in zip(old, new, strict=True))
    grid = rows[tokens:].reshape(*old, 5).double().numpy()
    expected = np.einsum("ij,jkc,lk->ilc", height, grid, width)
    torch.testing.assert_close(
        result[tokens:].double().numpy(), expected.reshape(-1, 5), rtol=0, atol=1e-5
    )


class Positions(nn.Module):
    def __init__(self, *shape: int, name: str = "pos_embed") -> None:
        super().__init__()
        self.proj = nn.Linear(2, 2)
        self.register_parameter(name, nn.Parameter(torch.randn(shape)))


@pytest.mark.parametrize(
    ("source", "target", "how"),
    [
        ((1, 17, 8), (1, 26, 8), "grid 4 x 4 to 5 x 5, bicubic, 1 tokens kept"),
        ((1, 16, 8), (1, 9, 8), "grid 4 x 4 to 3 x 3, bicubic, 0 tokens kept"),
        ((18, 8), (11, 8), "grid 4 x 4 to 3 x 3, bicubic, 2 tokens kept"),
        ((1, 8, 4, 6), (1, 8, 2, 3), "grid 4 x 6 to 2 x 3, bicubic"),
        ((1, 17, 8), (1, 26, 9), None),
        ((1, 17, 8), (1, 23, 8), None),
        ((2, 17, 8), (2, 26, 8), None),
        ((1, 8, 4, 6), (1, 9, 2, 3), None),
        ((1, 17, 8), (26, 8), None),
    ],
)
def test_position_embeddings_when_asked(source: Any, target: Any, how: str | None) -> None:
    state = Positions(*source).state_dict()
    asked = load(Positions(*target), state, adapt="pos_embed", init_missing=None)
    assert [row.how for row in asked.adapted] == ([how] if how else [])
    assert len(asked.mismatched) == (how is None)
    unasked = load(Positions(*target), state, init_missing=None)
    assert [row.name for row in unasked.mismatched] == ["pos_embed"]


class Patches(nn.Module):
    """A model that says of which grid its positions are, as timm, transformers and torchvision do."""

    def __init__(self, positions: int, **sizes: Any) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 1)
        self.pos_embed = nn.Parameter(torch.randn(1, positions, 8))
        for name, size in sizes.items():
            setattr(self.patch_embed, name, size)


TWO_BY_EIGHT = [
    {"grid_size": (2, 8)},
    {"patches_resolution": [2, 8]},
    {"image_size": (32, 128), "patch_size": 16},
    {"image_size": (33, 128), "patch_size": (16, 16)},
]


@pytest.mark.parametrize("sizes", TWO_BY_EIGHT)
@pytest.mark.parametrize("tokens", [0, 1, 2])
def test_positions_are_resampled_to_the_grid_that_the_model_says(
    sizes: dict[str, Any], tokens: int
) -> None:
    source, model = Patches(25 + tokens), Patches(16 + tokens, **sizes)
    report = load(model, source.state_dict(), adapt="pos_embed")
    expected = resized_positions(source.pos_embed.detach(), tokens, (5, 5), (2, 8))
    assert torch.equal(model.pos_embed, expected)
    assert [row.how for row in report.adapted] == [
        f"grid 5 x 5 to 2 x 8, bicubic, {tokens} tokens kept"
    ]


@pytest.mark.parametrize("sizes", TWO_BY_EIGHT)
@pytest.mark.parametrize("tokens", [0, 1])
def test_positions_of_as_many_places_on_what_may_be_another_grid_are_refused(
    sizes: dict[str, Any], tokens: int
) -> None:
    source, model = Patches(16 + tokens), Patches(16 + tokens, **sizes)
    before = state_of(model)
    message = "pos_embed has the grid 2 x 8 in the model, and 4 x 4 or 2 x 8 in the source"
    with pytest.raises(ValueError, match=message):
        load(model, source.state_dict(), adapt=("head", "pos_embed"))
    assert_same(model, before)
    report = load(model, source.state_dict())
    assert_same(model, source.state_dict())
    assert "pos_embed" in report.loaded


@pytest.mark.parametrize(
    ("sizes", "how"),
    [
        ({"grid_size": (4, 4)}, []),
        ({}, ["16 positions as they are: no module says of which grid"]),
        ({"image_size": "large", "patch_size": None, "grid_size": 4}, []),
    ],
)
def test_positions_of_as_many_places_are_taken_as_they_are(
    sizes: dict[str, Any], how: list[str]
) -> None:
    source, model = Patches(16), Patches(16, **sizes)
    report = load(model, source.state_dict(), adapt="pos_embed")
    assert_same(model, source.state_dict())
    assert [row.how for row in report.adapted] == how
    assert report.mismatched == ()


def test_positions_on_a_grid_that_is_no_square_need_a_model_that_says_it() -> None:
    state = Patches(16).state_dict()
    unknown = load(Patches(15), state, adapt="pos_embed")
    assert [row.name for row in unknown.mismatched] == ["pos_embed"]
    known = load(Patches(15, grid_size=(3, 5)), state, adapt="pos_embed")
    assert [row.how for row in known.adapted] == ["grid 4 x 4 to 3 x 5, bicubic, 0 tokens kept"]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("pos_embed", True),
        ("position_embeddings", True),
        ("positional_embedding", True),
        ("pos_embedding", True),
        ("pos_emb", True),
        ("token_embedding", False),
        ("relative_position_bias_table", False),
    ],
)
def test_names_of_position_embeddings(name: str, is_one: bool) -> None:
    state = Positions(1, 16, 4, name=name).state_dict()
    report = load(Positions(1, 25, 4, name=name), state, adapt=["pos_embed"], init_missing=None)
    assert len(report.adapted) == is_one


# ---- Freezing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (None, []),
        (False, []),
        (True, ["stem.weight", "stem.bias", "norm.weight", "norm.bias", "body.1.weight"]),
        ("norm.*", ["norm.weight", "norm.bias"]),
        (["stem.*", nn.Linear], ["stem.weight", "stem.bias", "body.1.weight"]),
    ],
)
def test_freezing_reaches_what_was_loaded(freeze: Any, frozen: list[str]) -> None:
    state = pretrained()
    lost = ("body.0.weight", "body.0.bias", "body.1.bias", "head.weight", "head.bias")
    for name in lost:
        del state[name]
    model = Net()
    report = load(model, state, freeze=freeze)
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == frozen
    assert list(report.frozen) == frozen


def test_originals_of_parametrized_weights_are_frozen() -> None:
    source, model = (parametrizations.weight_norm(nn.Linear(4, 3)) for _ in range(2))
    load(model, source.state_dict(), freeze="weight")
    assert [p.requires_grad for p in model.parameters()] == [True, False, False]


# ---- Reports -------------------------------------------------------------------------------------


def make_report() -> LoadReport:
    state = pretrained(3, 6, 10) | {"old": torch.ones(1)}
    state["body.0.bias"][:2] = torch.tensor([torch.nan, -torch.inf])
    del state["body.1.bias"]
    return load(Net(1, 6, 4), state, freeze="stem.*")


def test_a_report_as_text_names_all_that_was_not_simply_loaded() -> None:
    lines = [" ".join(line.split()) for line in str(make_report()).splitlines()]
    for line in (
        "adapted stem.weight [6, 3, 3, 3] [6, 1, 3, 3] 3 to 1 input channels",
        "adapted head.weight [10, 6] [4, 6] head of 4 outputs instead of 10, made anew",
        "missing body.1.bias",
        "unexpected old",
        "not finite body.0.bias (2 elements)",
    ):
        assert line in lines
    assert make_report().summary == (
        "state dict: 92.80 % of the parameters, 9 loaded, 3 adapted, 1 missing, 1 unexpected, "
        "3 reinitialized, 2 frozen, 1 nonfinite"
    )


def test_long_lists_and_names_in_a_report() -> None:
    names = tuple(f"{i}." + "long." * 15 + "weight" for i in range(12))
    text = str(LoadReport("source", 50.0, missing=names))
    assert all((name in text) == (i < 10) for i, name in enumerate(names))
    assert "... and 2 more" in text


def test_a_report_is_saved_as_json(tmp_path: Path) -> None:
    report = make_report()
    report.save(tmp_path / "r.json")
    saved = json.loads((tmp_path / "r.json").read_text())
    assert saved == json.loads(json.dumps(report.to_dict()))
    assert saved["adapted"][0]["source"] == [6, 3, 3, 3]
    assert saved["nonfinite"] == {"body.0.bias": 2}
    assert saved["initialized"]["rows"]
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


# ---- Values that are not finite ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_counted(dtype: torch.dtype, value: float) -> None:
    weight = torch.ones(3000, 1000, dtype=dtype)
    for place in (0, 1_500_000, 2_999_999):
        weight.view(-1)[place] = value
    model = nn.Linear(1000, 3000, bias=False)
    assert load(model, {"weight": weight}).nonfinite == {"weight": 3}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_large_values_are_finite(dtype: torch.dtype) -> None:
    weight = torch.full((100, 100), torch.finfo(dtype).max, dtype=dtype)
    model = nn.Linear(100, 100, bias=False, dtype=dtype)
    assert load(model, {"weight": weight}, nan="refuse").nonfinite == {}


def test_float8_and_complex_values_are_looked_at() -> None:
    eight = torch.tensor([1.0, torch.nan, 2.0]).to(torch.float8_e4m3fn)
    model = nn.ParameterDict(
        {"eight": torch.zeros(3), "complex": torch.zeros(2, dtype=torch.cfloat)}
    )
    report = load(model, {"eight": eight, "complex": torch.tensor([1j, complex("inf")])})
    assert report.nonfinite == {"eight": 1, "complex": 1}
    assert torch.equal(model["eight"][[0, 2]], torch.tensor([1.0, 2.0]))


def test_values_that_are_not_finite_are_refused_on_request() -> None:
    state, model = pretrained(), Net()
    state["norm.bias"][2] = torch.nan
    state["head.weight"][3] = torch.inf
    before = state_of(model)
    message = "state dict has NaN or infinite values in 2 tensors: norm.bias, head.weight"
    with pytest.raises(ValueError, match=message):
        load(model, state, nan="refuse")
    assert_same(model, before)


# ---- Errors --------------------------------------------------------------------------------------


def other_model() -> dict[str, Tensor]:
    return {"fc1.weight": torch.ones(2, 2), "fc2.weight": torch.ones(2, 2)}


def without_head() -> dict[str, Tensor]:
    state = pretrained(1, 6, 10)
    del state["head.bias"]
    return state | {"tail": torch.ones(1)}


ERRORS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (
        other_model,
        {},
        ValueError,
        "has nothing of the name and shape of any parameter of the model: it has fc1.weight, ",
    ),
    (without_head, {"strict": True}, RuntimeError, "1 missing: head.bias; 1 unexpected: tail; "),
    (
        without_head,
        {"strict": True},
        RuntimeError,
        "stem.weight [6, 1, 3, 3] instead of [6, 3, 3, 3]",
    ),
    (pretrained, {"adapt": ("first_con",)}, ValueError, "did you mean first_conv"),
    (pretrained, {"nan": "ignore"}, ValueError, "nan must be 'report' or 'refuse', got 'ignore'"),
    (pretrained, {"freeze": "trunk.*"}, ValueError, "freeze: 'trunk.*' matches nothing"),
    (without_head, {"init_missing": "kaimin"}, ValueError, "did you mean kaiming"),
    (without_head, {"seed": -1}, ValueError, "seed must be in [0, 2^64)"),
    (pretrained, {"rename": [("weight|bias", "x")]}, ValueError, "both become"),
    (pretrained, {"prefix": "x."}, ValueError, "no name in the source starts with 'x.'"),
    (lambda: "lost.safetensors", {}, FileNotFoundError, "lost.safetensors does not exist"),
    (
        lambda: {"stem.bias": torch.ones(6, dtype=torch.complex64)},
        {},
        ValueError,
        "is torch.float32",
    ),
]


@pytest.mark.parametrize("on_meta", [False, True])
@pytest.mark.parametrize(("source", "options", "error", "message"), ERRORS)
def test_after_an_error_the_model_is_as_it_was(
    source: Callable[[], Any],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    on_meta: bool,
) -> None:
    with torch.device("meta" if on_meta else "cpu"):
        model = Net()
    given = source()
    tensors, before = model.state_dict(keep_vars=True), state_of(model)
    generator = torch.get_rng_state()
    with pytest.raises(error, match=re.escape(message)):
        load(model, given, **options)
    for name, tensor in model.state_dict(keep_vars=True).items():
        assert tensor is tensors[name]
        assert tensor.requires_grad == name.endswith(("weight", "bias"))
        assert on_meta or torch.equal(tensor, before[name])
    assert torch.equal(torch.get_rng_state(), generator)


def test_after_an_error_a_recurrent_layer_lists_the_weights_that_it_has() -> None:
    state = state_of(nn.LSTM(2, 3))
    del state["bias_hh_l0"]
    with torch.device("meta"):
        model = nn.LSTM(2, 3)
    with pytest.raises(ValueError, match="did you mean kaiming"):
        load(model, state, init_missing="kaimin")
    assert all(a is b for a, b in zip(model._flat_weights, model.parameters(), strict=True))


def test_a_damaged_shard_changes_nothing(tmp_path: Path) -> None:
    state, model = pretrained(), Net()
    before = state_of(model)
    for i, name in enumerate(state):
        save_file({name: state[name]}, tmp_path / f"{i}.safetensors")
    last = tmp_path / f"{len(state) - 1}.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(ValueError, match=re.escape(str(last))):
        load(model, tmp_path)
    assert_same(model, before)


def test_a_source_of_another_model_is_taken_if_allowed() -> None:
    model = Net()
    report = load(model, other_model(), allow_empty=True)
    assert report.coverage == 0
    assert report.unexpected == ("fc1.weight", "fc2.weight")
    assert len(report.missing) == len(model.state_dict())


def test_without_a_recipe_a_model_on_the_meta_device_must_be_complete() -> None:
    state = pretrained()
    del state["head.bias"]
    with torch.device("meta"):
        model = Net()
    message = r"1 parameters of a model on the meta device would be without values.*: head\.bias"
    with pytest.raises(ValueError, match=message):
        load(model, state, init_missing=None)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_tensors_that_cannot_be_written_are_refused() -> None:
    model = nn.Linear(3, 2)
    model.bias = nn.Parameter(torch.zeros(1).expand(2))
    before = state_of(model)
    with pytest.raises(ValueError, match="elements of bias share memory"):
        load(model, nn.Linear(3, 2).state_dict())
    assert_same(model, before)


def test_lazy_modules_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.LazyLinear(3)
    with pytest.raises(ValueError, match="parameter weight has no shape yet: it is lazy"):
        load(model, nn.Linear(3, 3).state_dict())


# ---- Values that are elsewhere -------------------------------------------------------------------


def sharded(mesh: Any, on_meta: bool) -> nn.Module:
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    with torch.device("meta" if on_meta else "cpu"):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    fully_shard(model[1], mesh=mesh)
    return model


@pytest.mark.parametrize("kind", ["sharded", "sharded on meta", "sharded to_empty", "wrapped"])
def test_models_with_values_elsewhere_are_refused_by_name(kind: str, mesh: Any) -> None:
    if kind == "wrapped":
        model: nn.Module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        half = torch.zeros(4, 4)
        model[1].weight = nn.Parameter(TwoTensor(half, half.clone()))
    else:
        model = sharded(mesh, on_meta=kind != "sharded")
    if kind == "sharded to_empty":
        model.to_empty(device="cpu")
    tensors = dict(model.named_parameters())
    before = model[0].weight.detach().clone()
    state = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).state_dict()
    del state["0.bias"]
    with pytest.raises(ValueError, match=r"load_pretrained_ takes tensors .*: 1\.weight \("):
        load(model, state)
    assert all(p is tensors[name] for name, p in model.named_parameters())
    assert before.is_meta or same_bits(model[0].weight, before)


def test_sources_with_values_elsewhere_are_refused_by_name(mesh: Any) -> None:
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415

    model, weight = nn.Linear(4, 4), torch.ones(4, 4)
    before = state_of(model)
    for where, tensor in (
        ("a DTensor", distribute_tensor(weight, mesh)),
        ("a wrapper of other tensors", TwoTensor(weight, weight.clone())),
    ):
        with pytest.raises(ValueError, match=rf"tensor 'weight' has its values elsewhere.*{where}"):
            load(model, {"weight": tensor})
        assert_same(model, before)


# ---- Memory --------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_no_second_copy_of_the_model_is_made(suffix: str, tmp_path: Path) -> None:
    state = {f"{i}.weight": torch.ones(1024, 1024) for i in range(48)}
    path = tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    script = """
        import re, sys, threading, time
        import torch
        from torch import nn
        from pyinit.pretrained.load import load_pretrained_

        def anonymous():
            with open("/proc/self/status") as status:
                return int(re.search(r"RssAnon:\\s+(\\d+) kB", status.read())[1]) * 1024

        def watch():
            global peak
            while not done:
                peak = max(peak, anonymous())
                time.sleep(0.001)

        model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(48)))
        load_pretrained_(nn.Linear(2, 2), nn.Linear(2, 2).state_dict())
        before, peak, done = anonymous(), 0, False
        watcher = threading.Thread(target=watch)
        watcher.start()
        report = load_pretrained_(model, sys.argv[1])
        done = True
        watcher.join()
        assert report.coverage == 100
        print(max(peak, anonymous()) - before)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ran.stdout) < 64 << 20
