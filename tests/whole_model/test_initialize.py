"""A whole model in one call: what it fills, what it leaves, and what it refuses."""

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from bits import same_bits
from poison import poisoned_model
from programs import output_of
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, skip_init

import pyinit
from pyinit import Choice, Recipe, Rule, _core, fill, initialize_, initializers, replay_

NORMAL = initializers.Normal(0.0, 1.0)


class Gaps(nn.Module):
    """Parameters in all layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 10, 3)
        self.transposed = nn.Parameter(torch.zeros(30, 20).t())
        self.strided = nn.Parameter(torch.zeros(16, 20)[::2, 3:-2])
        self.scalar = nn.Parameter(torch.zeros(()))
        self.empty = nn.Parameter(torch.zeros(3, 0))


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 5)),
        nn.Embedding(9, 4, padding_idx=2),
        nn.LSTM(4, 6),
        nn.LayerNorm(4),
    )


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().clone()
        for name, tensor in (
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        )
    }


def assert_same(model: nn.Module, expected: dict[str, Tensor]) -> None:
    found = tensors_of(model)
    assert found.keys() == expected.keys()
    assert [n for n in found if not same_bits(found[n], expected[n])] == []


@contextmanager
def nothing_changes(model: nn.Module) -> Iterator[None]:
    """All tensors of the model and torch's generator are afterwards what they were."""
    before, state = tensors_of(model), torch.get_rng_state()
    objects = dict(model.named_parameters(remove_duplicate=False))
    yield
    assert_same(model, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(objects[n] is p for n, p in model.named_parameters(remove_duplicate=False))


def stream(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


# ---- Where the values go ---------------------------------------------------------------------------


def test_a_model_built_on_the_meta_device_gets_the_values_of_one_built_in_memory() -> None:
    model = small()
    initialize_(model, "xavier", seed=3)
    with torch.device("meta"):
        empty = small()
    initialize_(empty, "xavier", seed=3)
    assert_same(empty, tensors_of(model))
    x = torch.ones(5, 2, 4)
    assert torch.equal(empty[4](x)[0], model[4](x)[0])  # it lists its weights once more


def test_parameters_on_the_meta_device_stay_the_parameters_that_they_are() -> None:
    with torch.device("meta"):
        model = nn.ModuleDict({"one": nn.Linear(4, 4), "two": nn.Linear(4, 4)})
    model["two"].weight = model["one"].weight
    model["one"].weight.kind = "of mine"
    report = initialize_(model, "torch", seed=0, device="cpu")
    assert model["two"].weight is model["one"].weight
    assert type(model["one"].weight) is nn.Parameter
    assert model["one"].weight.kind == "of mine"
    assert all(p.requires_grad and p.is_leaf and p.device.type == "cpu" for p in model.parameters())
    assert report["two.weight"] is report["one.weight"]


def test_under_the_meta_device_memory_is_on_the_cpu() -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 3)
        initialize_(model, "torch", seed=1)
    assert model.weight.device.type == "cpu"
    assert model.weight.isfinite().all()


def test_what_is_left_out_stays_on_the_meta_device_with_its_buffers() -> None:
    with torch.device("meta"):
        model = nn.ModuleDict(
            {
                "mine": nn.BatchNorm1d(3),
                "other": nn.BatchNorm1d(3),
                "normed": parametrizations.weight_norm(nn.Linear(3, 3)),
            }
        )
    initialize_(model, "torch", seed=1, only="mine.*")
    assert {n for n, t in model.state_dict().items() if not t.is_meta} == {
        f"mine.{n}" for n in model["mine"].state_dict()
    }


def test_skip_init_gets_values() -> None:
    model = skip_init(nn.Linear, 20, 30)
    poisoned_model(model)
    initialize_(model, "torch", seed=1)
    assert model.weight.abs().max() <= 20**-0.5
    assert model.weight.std() > 0.5 * 20**-0.5


def test_tied_parameters_are_filled_once_and_reported_with_all_of_their_names() -> None:
    model = nn.ModuleDict(
        {"embed": nn.Embedding(7, 5), "layer": nn.Linear(5, 5), "head": nn.Linear(5, 7, bias=False)}
    )
    model["head"].weight = model["embed"].weight
    model["again"] = model["layer"]
    report = initialize_(model, "normal", seed=2)
    assert [(row.name, row.tied) for row in report] == [
        ("embed.weight", ("head.weight",)),
        ("layer.weight", ("again.weight",)),
        ("layer.bias", ("again.bias",)),
    ]
    alone = fill.normal(torch.empty(7, 5), 0, 0.01, key=2, stream=stream("embed.weight"))
    assert same_bits(model["head"].weight, alone)


def test_two_parameters_over_the_same_memory_are_filled_as_the_first() -> None:
    model = nn.ModuleDict({"a": nn.Linear(5, 5), "b": nn.Linear(5, 5), "c": nn.Linear(5, 5)})
    model["b"].weight = nn.Parameter(model["a"].weight.data)
    model["c"].weight = nn.Parameter(model["a"].weight.data.t())
    report = initialize_(model, "normal", seed=1)
    for name in "bc":
        assert report[f"{name}.weight"].why == "the same memory as a.weight"
        assert report[f"{name}.weight"].is_kept
    alone = fill.normal(torch.empty(5, 5), 0, 0.01, key=1, stream=stream("a.weight"))
    assert same_bits(model["a"].weight, alone)


def alias(first: str, second: str) -> nn.ModuleDict:
    """Its parameter a.<first> lies where b.<second> does."""
    model = nn.ModuleDict({"a": nn.Linear(5, 5), "b": nn.Linear(5, 5)})
    setattr(model["a"], first, nn.Parameter(getattr(model["b"], second).data))
    return model


@pytest.mark.parametrize("skip", ["a.*", "b.*"])
def test_what_lies_where_a_skipped_parameter_does_is_kept(skip: str) -> None:
    model = alias("weight", "weight")
    before = model["a"].weight.detach().clone()
    report = initialize_(model, "normal", seed=1, skip=skip)
    assert same_bits(model["a"].weight, before)
    assert {report["a.weight"].why, report["b.weight"].why} == {
        "among skip=",
        "the same memory as " + ("a.weight" if skip == "a.*" else "b.weight"),
    }


def test_what_lies_where_an_unknown_parameter_does_is_filled() -> None:
    model = alias("unknown", "weight")
    report = initialize_(model, "normal", seed=1)
    assert report["a.unknown"].why == "the same memory as b.weight"
    assert not report["b.weight"].is_kept
    assert same_bits(model["a"].unknown, model["b"].weight)


@pytest.mark.parametrize(
    "why", ["the same memory as a.weight", "recipe torch leaves it as it is", "among skip="]
)
def test_the_words_of_a_recipes_reason_decide_nothing(why: str) -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = nn.Parameter(model["a"].weight.data)
    before = model["a"].weight.clone()

    def keeping(_: object) -> dict[str, Choice]:
        return {"a.weight": Choice(NORMAL, "all"), "b.weight": Choice(initializers.Keep(), why)}

    report = initialize_(model, Recipe("keeping", keeping, ""), seed=1)
    assert all(row.is_kept for row in report)
    assert torch.equal(model["a"].weight, before)


def test_columns_of_one_tensor_are_parameters_of_their_own() -> None:
    model, memory = nn.Module(), torch.zeros(50, 7)
    for i in range(7):
        model.register_parameter(f"p{i}", nn.Parameter(memory[:, i]))
    report = initialize_(model, "zero", rules={"*": NORMAL}, seed=1)
    assert not any(row.is_kept for row in report)
    for i in range(7):
        alone = fill.normal(torch.empty(50), key=1, stream=stream(f"p{i}"))
        assert same_bits(memory[:, i], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_layout_and_dtype_gets_the_values_of_a_fill_of_its_own(dtype: torch.dtype) -> None:
    model = poisoned_model(Gaps().to(dtype))
    model.conv.to(memory_format=torch.channels_last)
    report = initialize_(model, "zero", rules={"*": NORMAL}, seed=5)
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for name, parameter in model.named_parameters():
        alone = fill.normal(
            torch.empty(parameter.shape, dtype=dtype), key=5, stream=report[name].stream or 0
        )
        assert same_bits(parameter, alone), name


RANDOM = ["torch", "xavier", "keras", "delta_orthogonal", "lstm"]


@pytest.mark.parametrize("recipe", RANDOM)
def test_values_do_not_depend_on_threads_or_instruction_set(
    recipe: str, set_threads: Callable[[int], None]
) -> None:
    usual = _core.isa()
    # Matrix products and moments round otherwise without fused multiply-add.
    has_matrices = recipe not in ("torch", "xavier")
    expected, rows = None, {}
    try:
        for isa in _core.available_isas():
            if isa == "baseline" and has_matrices:
                continue
            _core.set_isa(isa)
            for threads in (1, 2, 7):
                set_threads(threads)
                model = poisoned_model(small())
                report = initialize_(model, recipe, seed=9)
                expected = expected or tensors_of(model)
                assert_same(model, expected)
                assert report.rows == rows.setdefault(isa == "baseline", report.rows)
    finally:
        _core.set_isa(usual)


def test_parameters_stay_leaves_and_their_versions_count() -> None:
    model = small()
    before = {name: (id(p), p._version) for name, p in model.named_parameters()}
    initialize_(model, "xavier")
    for name, p in model.named_parameters():
        assert p.is_leaf
        assert p.requires_grad
        assert p.grad_fn is None
        assert id(p) == before[name][0]
        assert p._version > before[name][1]


def test_backward_through_what_was_saved_before_is_refused() -> None:
    model = nn.Linear(3, 3)
    loss = model(torch.ones(2, 3, requires_grad=True)).square().sum()
    initialize_(model, "torch")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---- Parametrizations ------------------------------------------------------------------------------


def layers() -> nn.ModuleDict:
    return nn.ModuleDict({"linear": nn.Linear(6, 9), "conv": nn.Conv2d(4, 6, 3)})


@contextmanager
def deprecated() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def each_layer(wrap: Callable[..., nn.Module], **options: Any) -> nn.ModuleDict:
    model = layers()
    with deprecated():
        for layer in model.values():
            wrap(layer, **options)
    return model


def plain(model: nn.Module, layer: str) -> Tensor:
    """The normal numbers of a layer's weight."""
    return fill.normal(
        torch.empty(model[layer].weight.shape), 0, 0.01, key=4, stream=stream(f"{layer}.weight")
    )


WEIGHT_NORMS = [parametrizations.weight_norm, nn.utils.weight_norm]
SPECTRAL_NORMS = [parametrizations.spectral_norm, nn.utils.spectral_norm]


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("wrap", WEIGHT_NORMS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weight_norm_gives_a_weight_with_the_initializers_values(
    wrap: Callable[..., nn.Module], dim: int | None, device: str
) -> None:
    with torch.device(device):
        model = each_layer(wrap, dim=dim)
    report = initialize_(model, "normal", seed=4)
    for name, layer in model.items():
        torch.testing.assert_close(layer.weight.detach(), plain(model, name), rtol=1e-5, atol=1e-9)
        row = report[f"{name}.weight"]
        assert len(row.originals) == 2
        assert row.shape == tuple(layer.weight.shape)
        assert row.std == pytest.approx(layer.weight.std(correction=0).item(), rel=1e-5)
        before = layer.weight.detach().clone()
        layer(torch.ones(2, *((6,) if name == "linear" else (4, 5, 5))))
        torch.testing.assert_close(layer.weight.detach(), before, rtol=1e-6, atol=0)
        layer.weight.sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "bias" not in n)


@pytest.mark.parametrize("wrap", SPECTRAL_NORMS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_spectral_norm_has_found_the_norm_of_the_initializers_values(
    wrap: Callable[..., nn.Module], training: bool, device: str
) -> None:
    with torch.device(device):
        model = each_layer(wrap).train(training)
    state = torch.get_rng_state()
    report = initialize_(model, "normal", seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training == training for module in model.modules())
    for name, layer in model.eval().items():
        value = plain(model, name)
        row = report[f"{name}.weight"]
        (original,) = row.originals
        assert same_bits(model.get_parameter(original), value)
        norm = torch.linalg.matrix_norm(value.flatten(1), 2)
        with torch.no_grad():
            layer(torch.ones(2, *((6,) if name == "linear" else (4, 5, 5))))
        torch.testing.assert_close(layer.weight.detach(), value / norm, rtol=0.02, atol=1e-6)
        assert row.std == pytest.approx(layer.weight.detach().std(correction=0).item(), rel=1e-5)
    assert len(report.buffers) == 2


@pytest.mark.parametrize("wrap", [*WEIGHT_NORMS, *SPECTRAL_NORMS, parametrizations.orthogonal])
def test_parametrized_models_are_the_same_from_seed_report_and_the_meta_device(
    wrap: Callable[..., nn.Module],
) -> None:
    model, again = each_layer(wrap), each_layer(wrap)
    empty = each_layer(wrap).to("meta")  # torch cannot build orthogonal ones there
    report = initialize_(model, "normal", seed=4)
    initialize_(again, "normal", seed=4)
    assert_same(again, tensors_of(model))
    for other in (each_layer(wrap), empty):
        replay_(other, report)
        assert_same(other, tensors_of(model))
    assert {n for row in report for n in (row.name, *row.originals)} >= {
        name for name, _ in model.named_parameters()
    }


@pytest.mark.parametrize(
    "options", [{}, {"orthogonal_map": "householder"}, {"use_trivialization": False}]
)
@pytest.mark.parametrize("shape", [(6, 6), (6, 9), (9, 6)])
def test_orthogonal_parametrizations_start_orthogonal(
    options: dict[str, Any], shape: tuple[int, int]
) -> None:
    model = parametrizations.orthogonal(nn.Linear(*shape), **options)
    state = torch.get_rng_state()
    initialize_(model, "orthogonal", seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    weight = model.weight.detach()
    product = weight @ weight.T if len(weight) <= len(weight.T) else weight.T @ weight
    torch.testing.assert_close(product, torch.eye(len(product)), atol=1e-5, rtol=0)


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).T


def test_without_a_right_inverse_the_original_gets_the_values() -> None:
    model = nn.ModuleDict({"linear": nn.Linear(5, 5)})
    parametrize.register_parametrization(model["linear"], "weight", Symmetric())
    report = initialize_(model, "normal", seed=4)
    original = model["linear"].parametrizations.weight.original
    assert same_bits(original, plain(model, "linear"))
    assert report["linear.weight"].std == pytest.approx(
        model["linear"].weight.std(correction=0).item(), rel=1e-5
    )


def test_a_chain_of_parametrizations_is_followed() -> None:
    model = parametrizations.spectral_norm(parametrizations.weight_norm(nn.Linear(20, 20))).eval()
    report = initialize_(model, "xavier", seed=1)
    assert torch.linalg.matrix_norm(model.weight.detach(), 2) == pytest.approx(1, abs=0.1)
    assert [row.name for row in report] == ["weight", "bias"]
    assert len(report["weight"].originals) == 2


def test_what_is_pruned_stays_pruned() -> None:
    model = nn.ModuleDict({"linear": nn.Linear(8, 8)})
    prune.l1_unstructured(model["linear"], "weight", amount=20)
    mask = model["linear"].weight_mask.clone()
    report = initialize_(model, "normal", seed=4)
    layer = model["linear"]
    assert torch.equal(layer.weight_mask, mask)
    assert same_bits(layer.weight_orig, plain(model, "linear"))
    assert torch.equal(layer.weight, layer.weight_orig * mask)
    assert report["linear.weight"].originals == ("linear.weight_orig",)
    layer(torch.ones(1, 8)).sum().backward()
    assert layer.weight_orig.grad is not None


@pytest.mark.parametrize("wrap", WEIGHT_NORMS)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_recurrent_layers_compute_with_their_new_weights(
    wrap: Callable[..., nn.Module], device: str
) -> None:
    with deprecated():
        model = wrap(nn.LSTM(4, 5), "weight_hh_l0").to(device)
    initialize_(model, "lstm", seed=1)
    unwrapped = nn.LSTM(4, 5)
    initialize_(unwrapped, "lstm", seed=1)
    x = torch.ones(3, 2, 4)
    torch.testing.assert_close(model(x)[0], unwrapped(x)[0])


def test_a_parametrized_buffer_is_no_parameter() -> None:
    model = nn.Linear(3, 3)
    model.register_buffer("kernel", torch.ones(3, 3))
    parametrize.register_parametrization(model, "kernel", Symmetric())
    report = initialize_(model, "normal", seed=1)
    assert [row.name for row in report] == ["weight", "bias"]
    assert (model.kernel == 1).all()


@pytest.mark.parametrize("wrap", [*WEIGHT_NORMS, *SPECTRAL_NORMS])
def test_a_frozen_parametrized_weight_is_kept(wrap: Callable[..., nn.Module]) -> None:
    model = each_layer(wrap)
    for parameter in model["conv"].parameters():
        parameter.requires_grad_(False)
    before = tensors_of(model["conv"])
    report = initialize_(model, "normal", seed=4)
    assert_same(model["conv"], before)
    assert report["conv.weight"].why == "frozen: requires no gradient"
    assert not report["linear.weight"].is_kept


@pytest.mark.parametrize("wrap", [*WEIGHT_NORMS, *SPECTRAL_NORMS])
def test_a_parametrized_module_that_is_there_twice_has_all_names_in_the_report(
    wrap: Callable[..., nn.Module],
) -> None:
    model = each_layer(wrap)
    model["again"] = model["linear"]
    report = initialize_(model, "normal", seed=4)
    names = {name for row in report for name in (row.name, *row.tied, *row.originals)}
    assert names >= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert report["again.weight"] is report["linear.weight"]


# ---- What is left alone ----------------------------------------------------------------------------


def test_frozen_parameters_and_those_of_other_dtypes_are_kept_and_reported() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["a"].weight.requires_grad_(False)
    model["b"].table = nn.Parameter(torch.arange(5), requires_grad=False)
    model["b"].wave = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    before = tensors_of(model)
    report = initialize_(model, "normal", seed=1)
    kept = {row.name: row.why for row in report if row.is_kept}
    assert kept == {
        "a.weight": "frozen: requires no gradient",
        "b.table": "of dtype torch.int64",
        "b.wave": "of dtype torch.complex64",
    }
    after = tensors_of(model)
    assert all(same_bits(before[n], after[n]) for n in kept)
    assert not any(same_bits(before[n], after[n]) for n in before if n not in kept)


def test_quantized_modules_are_left_alone() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4), nn.LayerNorm(4))
        torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8, inplace=True)
    x = torch.randn(3, 4)
    before = model[0](x)
    report = initialize_(model, "xavier", seed=1)
    assert torch.equal(model[0](x), before)
    assert {row.name for row in report} == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("choice", "initialized"),
    [
        ({"only": "0.*"}, {"0.weight", "0.bias"}),
        ({"only": nn.LayerNorm}, {"5.weight", "5.bias"}),
        ({"only": lambda site: site.name == "3.weight"}, {"3.weight"}),
        ({"only": ["0.*", nn.Embedding], "skip": "*.bias"}, {"0.weight", "3.weight"}),
        ({"skip": ["[0-4]*"]}, {"5.weight", "5.bias"}),
        (
            {"only": nn.Linear, "skip": lambda site: len(site.shape) == 1},
            {"2.0.weight", "2.2.weight"},
        ),
    ],
)
def test_only_what_is_asked_for_is_initialized(
    choice: dict[str, Any], initialized: set[str]
) -> None:
    model = small()
    model[1].running_mean.fill_(7.0)
    before = tensors_of(model)
    twos = Rule("*", initializers.Constant(2.0), fill_padding=True)
    report = initialize_(model, "zero", rules=twos, seed=1, **choice)
    assert {row.name for row in report if not row.is_kept} == initialized
    for name, tensor in tensors_of(model).items():
        if name in initialized:
            assert (tensor == 2.0).all(), name
        else:
            assert same_bits(tensor, before[name]), name
    assert all(row.why in ("not among only=", "among skip=") for row in report if row.is_kept)


def test_the_first_rule_that_matches_wins_over_the_recipe() -> None:
    model = small()
    kept = model[2][0].bias.detach().clone()
    report = initialize_(
        model,
        "xavier",
        seed=1,
        rules=[
            Rule("2.0.bias", "keep"),
            Rule("*.bias", {"name": "constant", "val": 3.0}),
            Rule(nn.Linear, "orthogonal"),
        ],
    )
    assert same_bits(model[2][0].bias, kept)
    assert (model[0].bias == 3.0).all()
    assert (model[2][2].bias == 3.0).all()
    weight = model[2][2].weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(5), atol=1e-5, rtol=0)
    assert report["2.0.bias"].why == "rule 1: 2.0.bias"
    assert report["2.2.weight"].why == "rule 3: Linear"
    assert report["0.weight"].initializer == initializers.XavierUniform()


def test_a_dry_run_writes_nothing_and_draws_nothing() -> None:
    model = small()
    model[1].running_mean.fill_(7.0)
    with torch.device("meta"):
        empty = small()
    for seed in (None, 3):
        with nothing_changes(model):
            report = initialize_(model, "xavier", seed=seed, dry_run=True)
        assert report.dry_run
        assert "would initialize" in str(report)
        assert all(row.mean is None and row.std is None for row in report)
    initialize_(empty, "xavier", dry_run=True)
    assert all(p.is_meta for p in empty.parameters())


# ---- Buffers ---------------------------------------------------------------------------------------


def test_buffers_of_norms_are_reset_but_not_those_of_frozen_ones() -> None:
    model = nn.ModuleDict({"a": nn.BatchNorm1d(3), "b": nn.BatchNorm1d(3), "c": nn.BatchNorm1d(3)})
    for norm in model.values():
        norm(torch.randn(8, 3))
    model["b"].requires_grad_(False)
    before = tensors_of(model)
    report = initialize_(model, "torch", skip="c.*", seed=0)
    assert report.buffers == [("a", "reset_running_stats")]
    assert model["a"].num_batches_tracked == 0
    assert (model["a"].running_mean == 0).all()
    assert (model["a"].running_var == 1).all()
    assert all(
        same_bits(t, before[n]) for n, t in tensors_of(model).items() if not n.startswith("a.")
    )


def test_buffers_of_norms_without_parameters_are_reset_unless_all_around_them_is_frozen() -> None:
    def part() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False))

    model = nn.Sequential(part().requires_grad_(False), part(), nn.BatchNorm1d(3, affine=False))
    model(torch.randn(8, 3))
    before = tensors_of(model)
    report = initialize_(model, "torch", seed=0)
    assert [path for path, _ in report.buffers] == ["1.1", "2"]
    assert same_bits(model[0][1].running_mean, before["0.1.running_mean"])
    assert (model[1][1].running_mean == 0).all()
    with torch.device("meta"):
        alone = nn.BatchNorm1d(3, affine=False)
    initialize_(alone, "torch", seed=0)
    assert (alone.running_var == 1).all()


# ---- Modules that reset themselves -----------------------------------------------------------------


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(5, 4))
        self.fixed = nn.Parameter(torch.full((3,), 8.0), requires_grad=False)
        self.inner = nn.Linear(4, 4)
        self.inner.weight.requires_grad_(False)

    def reset_parameters(self) -> None:
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_()


def test_a_module_that_resets_itself_draws_from_the_seed_and_changes_nothing_that_is_kept() -> None:
    models = [nn.Sequential(nn.Linear(3, 3), Own()) for _ in range(2)]
    kept = tensors_of(models[0][1])
    state = torch.get_rng_state()
    for model in models:
        report = initialize_(model, "torch", seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_bits(models[0][1].table, models[1][1].table)
    assert models[0][1].table.std() > 0.3
    assert isinstance(report["1.table"].initializer, initializers.OwnReset)
    for name in ("fixed", "inner.weight"):
        assert same_bits(models[0][1].get_parameter(name), kept[name]), name
    bound = 4**-0.5
    assert models[0][1].inner.bias.abs().max() <= bound


class Swapping(nn.Module):
    """Gives its parameters other memory, and another one in the place of one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(50, 40))
        self.other = nn.Parameter(torch.zeros(50, 40))
        self.inner = nn.Linear(40, 40)

    def reset_parameters(self) -> None:
        self.table.data = torch.randn(50, 40)
        self.other = nn.Parameter(torch.randn(50, 40))
        self.inner.weight.data = torch.full((40, 40), 3.0)


def test_a_module_may_give_its_parameters_other_memory() -> None:
    model = nn.Sequential(Swapping())
    old = [p.data for p in model.parameters()]
    before = [p.clone() for p in old]
    report = initialize_(model, "torch", rules={"*.other": NORMAL}, seed=4)
    for name, parameter in model.named_parameters():
        assert report[name].std == pytest.approx(parameter.std(correction=0).item(), rel=1e-5)
    alone = fill.normal(torch.empty(50, 40), key=4, stream=stream("0.other"))
    assert same_bits(model[0].other, alone)
    assert model[0].inner.weight.abs().max() <= 40**-0.5
    assert torch.equal(old[0], before[0])
    assert torch.equal(old[2], before[2])
    with torch.device("meta"):
        empty = nn.Sequential(Swapping())
    initialize_(empty, "torch", rules={"*.other": NORMAL}, seed=4)
    assert_same(empty, tensors_of(model))


# ---- By name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_values_are_those_of_a_fill_by_the_reports_key_and_stream(seed: int) -> None:
    model = poisoned_model(small())
    report = initialize_(model, "normal", rules=[("*.bias", NORMAL)], seed=seed)
    for row in report:
        if isinstance(row.initializer, initializers.Normal):
            assert (row.key, row.stream) == (seed, stream(row.name))
            alone = torch.empty(row.shape)
            fill.normal(
                alone, row.initializer.mean, row.initializer.std, key=seed, stream=row.stream
            )
            assert same_bits(model.get_parameter(row.name), alone), row.name


def test_layers_that_come_go_and_move_change_no_other() -> None:
    def build(names: list[str]) -> nn.ModuleDict:
        return nn.ModuleDict({name: nn.Conv2d(4, 4, 3) for name in names})

    for recipe in ("torch", "orthogonal"):
        models = [build(["a", "b", "c"]), build(["c", "x", "a", "y"]), build(["c"])]
        for model in models:
            initialize_(model, recipe, seed=6)
        for other in models[1:]:
            for name in other.keys() & models[0].keys():
                assert same_bits(other[name].weight, models[0][name].weight)
                assert same_bits(other[name].bias, models[0][name].bias)


@pytest.mark.parametrize(
    "initializer", [NORMAL, initializers.Uniform(-1, 1), initializers.TruncNormal()]
)
def test_a_shard_filled_by_itself_has_the_bits_of_the_whole(
    initializer: initializers.Initializer,
) -> None:
    model = nn.Linear(33, 20)
    row = initialize_(model, "zero", rules={"weight": initializer}, seed=8)["weight"]
    function = getattr(fill, initializer.name)
    for start in ((0, 0), (7, 4), (19, 32)):
        part = model.weight[start[0] :, start[1] :]
        shard = torch.full(part.shape, torch.nan)
        arguments = list(vars(initializer).values())
        function(shard, *arguments, key=row.key, stream=row.stream, whole=row.shape, start=start)
        assert same_bits(shard, part)


def test_without_a_seed_one_number_is_drawn_from_torchs_generator() -> None:
    torch.manual_seed(5)
    pyinit.normal_(torch.empty(3))
    expected = torch.get_rng_state()
    reports, models = [], [small(), small()]
    for model in models:
        torch.manual_seed(5)
        reports.append(initialize_(model, "xavier"))
        assert torch.equal(torch.get_rng_state(), expected)
    assert_same(models[1], tensors_of(models[0]))
    key = reports[0]["0.weight"].key
    assert reports[0].seed is None
    seeded = small()
    initialize_(seeded, "xavier", seed=key)
    assert_same(seeded, tensors_of(models[0]))
    initialize_(seeded, "xavier")
    assert not same_bits(seeded[0].weight, models[0][0].weight)


def test_a_generator_is_used_and_advanced_in_the_place_of_torchs() -> None:
    generator = torch.Generator().manual_seed(5)
    state = torch.get_rng_state()
    model, other = small(), small()
    torch.manual_seed(5)
    initialize_(other, "xavier")
    torch.set_rng_state(state)
    initialize_(model, "xavier", generator=generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(model, tensors_of(other))
    first = model[0].weight.detach().clone()
    initialize_(model, "xavier", generator=generator)
    assert not same_bits(model[0].weight, first)


# ---- torch's own numbers ---------------------------------------------------------------------------


MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(30, 40),
    "convolution": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3),
    "embedding": lambda: nn.Embedding(20, 6, padding_idx=3),
    "lstm": lambda: nn.LSTM(5, 7, num_layers=2, bidirectional=True),
    "all": lambda: nn.Sequential(
        nn.Linear(3, 4), nn.Embedding(5, 6), nn.BatchNorm1d(4), nn.GRU(3, 3), nn.Conv1d(2, 2, 3)
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_with_torchs_numbers_the_torch_recipe_draws_what_the_constructors_draw(name: str) -> None:
    torch.manual_seed(11)
    expected = MODULES[name]()
    state = torch.get_rng_state()
    model = poisoned_model(MODULES[name]())
    torch.manual_seed(11)
    with pyinit.rng("torch"):
        report = initialize_(model, "torch")
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(model, tensors_of(expected))
    assert report.rng == "torch"
    assert all(row.key is None for row in report)


def test_torchs_numbers_come_by_name_with_a_seed_and_are_replayed_under_any_choice() -> None:
    one = nn.ModuleDict({"a": nn.Linear(5, 5), "b": nn.Linear(5, 5)})
    other = nn.ModuleDict({"b": nn.Linear(5, 5)})
    state = torch.get_rng_state()
    with pyinit.rng("torch"):
        report = initialize_(one, "torch", seed=3)
        initialize_(other, "torch", seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_bits(one["b"].weight, other["b"].weight)
    assert not same_bits(one["a"].weight, one["b"].weight)
    again = nn.ModuleDict({"a": nn.Linear(5, 5), "b": nn.Linear(5, 5)})
    replay_(again, report)
    assert_same(again, tensors_of(one))


# ---- Bad input -------------------------------------------------------------------------------------


def parameter(tensor: Tensor) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = nn.ModuleDict({"first": nn.Linear(4, 4), "mine": nn.Module()})
        model["mine"].weight = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        return model

    return build


def overlapping(first: Callable[[Tensor], Tensor], *others: Callable[[Tensor], Tensor]) -> Any:
    def build() -> nn.Module:
        model, memory = nn.ModuleDict({"first": nn.Linear(4, 4)}), torch.zeros(40, 10)
        for i, part in enumerate((first, *others)):
            model[f"part{i}"] = nn.Module()
            model[f"part{i}"].weight = nn.Parameter(part(memory))
        return model

    return build


def inference() -> nn.Module:
    with torch.inference_mode():
        return parameter(torch.zeros(3, 3))()


FILLED = {"rules": {"*": NORMAL}}
BAD: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], Any, str]] = {
    "unknown recipe": (small, {"recipe": "xaver"}, ValueError, "xavier"),
    "recipe of another type": (small, {"recipe": 3}, TypeError, "recipe must be"),
    "unknown initializer": (small, {"rules": {"*": "orthogonl"}}, ValueError, "orthogonal"),
    "rule without a match": (small, {"rules": {"7.weight": NORMAL}}, ValueError, "matches no"),
    "orthogonal vector": (
        small,
        {"rules": {"*.bias": "orthogonal"}},
        ValueError,
        "orthogonal cannot fill .*bias",
    ),
    "rule on integers": (parameter(torch.arange(3)), FILLED, ValueError, "mine.weight.*int64"),
    "std beyond float16": (
        parameter(torch.zeros(3, dtype=torch.float16)),
        {"rules": {"mine.*": initializers.Normal(0, 1e6)}},
        ValueError,
        "mine.weight.*float16",
    ),
    "sparse std beyond float16": (
        parameter(torch.zeros(3, 3, dtype=torch.float16)),
        {"rules": {"mine.*": initializers.Sparse(0.5, 1e6)}},
        ValueError,
        "mine.weight.*float16",
    ),
    "infinite gain": (
        small,
        {"rules": {"2.*.weight": initializers.Orthogonal(float("inf"))}},
        ValueError,
        "gain",
    ),
    "bounds beyond float16": (
        parameter(torch.zeros(3, dtype=torch.float16)),
        {"rules": {"mine.*": initializers.TruncNormal(0, 1, 7e4, 8e4)}},
        ValueError,
        "mine.weight.*float16",
    ),
    "overlapping rows": (
        overlapping(lambda t: t[:20], lambda t: t[10:30]),
        FILLED,
        ValueError,
        "part0.weight and part1.weight share",
    ),
    "overlap inside of a third": (
        overlapping(lambda t: t[:, 0], lambda t: t[1:30, 1], lambda t: t[2:20, 1]),
        FILLED,
        ValueError,
        "part1.weight and part2.weight share",
    ),
    "overlap with a frozen one": (
        overlapping(lambda t: t[:20], lambda t: t[10:30]),
        {"skip": "part0.*", **FILLED},
        ValueError,
        "share",
    ),
    "expanded": (
        parameter(torch.zeros(3, 1).expand(3, 4)),
        FILLED,
        ValueError,
        "mine.weight has elements that share memory",
    ),
    "sparse": (parameter(torch.eye(3).to_sparse()), FILLED, ValueError, "mine.weight.*sparse"),
    "inference tensor": (inference, FILLED, RuntimeError, "(?i)inference"),
    "infinite bound": (
        small,
        {"rules": {"0.*": initializers.TruncNormal(0, 1, float("inf"), float("inf"))}},
        ValueError,
        "0.weight.*inf",
    ),
    "no module": (lambda: nn.Linear(2, 2).weight, {}, TypeError, "model must be"),
    "negative seed": (small, {"seed": -1}, ValueError, "seed must be"),
    "large seed": (small, {"seed": 2**64}, ValueError, "seed must be"),
    "bool for a seed": (small, {"seed": True}, TypeError, "seed must be"),
    "float for a seed": (small, {"seed": 1.0}, TypeError, "seed must be"),
    "seed and generator": (
        small,
        {"seed": 1, "generator": torch.Generator()},
        ValueError,
        "not both",
    ),
    "generator of another type": (small, {"generator": 1}, TypeError, "generator must be"),
    "unknown device": (small, {"device": "nowhere"}, RuntimeError, "nowhere"),
    "device that is not there": (
        small,
        {"device": "cuda:99"},
        (AssertionError, RuntimeError),
        "CUDA|NVIDIA",  # by a build of torch without and with kernels for it
    ),
    "pattern of another type": (small, {"only": 3}, TypeError, "pattern"),
    "lazy": (
        lambda: nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3)),
        {},
        ValueError,
        "1.weight .*lazy",
    ),
    "mimetic without attention": (small, {"recipe": "mimetic"}, ValueError, "attention"),
}


@pytest.mark.parametrize(
    ("name", "seed"),
    [(name, None) for name in BAD]
    + [(name, 1) for name, bad in BAD.items() if not {"seed", "generator"} & bad[1].keys()],
)
def test_what_cannot_be_done_is_refused_before_anything_changes(
    name: str, seed: int | None
) -> None:
    build, arguments, kind, message = BAD[name]
    model = build()
    given: dict[str, Any] = {"recipe": "torch", "seed": seed, **arguments}
    if not isinstance(model, nn.Module) or name == "lazy":
        with pytest.raises(kind, match=message):
            initialize_(model, **given)
        return
    for dry_run in (True, False):
        with nothing_changes(model), pytest.raises(kind, match=message):
            initialize_(model, dry_run=dry_run, **given)


def attention() -> nn.Module:
    return nn.ModuleDict({"first": nn.Linear(4, 4), "mine": nn.MultiheadAttention(8, 2)})


def test_what_needs_a_key_is_refused_before_anything_is_drawn() -> None:
    model = attention()
    with (
        nothing_changes(model),
        pyinit.rng("torch"),
        pytest.raises(ValueError, match="needs a key"),
    ):
        initialize_(model, "mimetic")
    initialize_(model, "mimetic")


def test_what_torch_cannot_do_is_refused_under_its_numbers() -> None:
    model = small().bfloat16()
    with nothing_changes(model), pyinit.rng("torch"), pytest.raises(ValueError, match="no QR"):
        initialize_(model, "orthogonal", seed=1)


def test_what_torch_cannot_do_at_a_centre_tap_is_refused_under_its_numbers() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).bfloat16()
    with nothing_changes(model), pyinit.rng("torch"), pytest.raises(ValueError, match="no QR"):
        initialize_(model, "delta_orthogonal")


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Linear(2, 2), Own().requires_grad_(False)),
        lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)),
    ],
)
def test_parameters_on_the_meta_device_that_would_be_without_values_are_refused(
    build: Callable[[], nn.Module],
) -> None:
    with torch.device("meta"):
        model = build()
    with pytest.raises(ValueError, match=r"without values.*1\.\w+.*frozen"):
        initialize_(model, "torch", seed=1)
    assert all(p.is_meta for p in model.parameters())


def test_buffers_on_the_meta_device_that_nothing_makes_again_are_refused() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2))
        model[0].register_buffer("scale", torch.ones(3))
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"0\.scale"):
        initialize_(model, "torch")
    assert all(p.is_meta for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


class Hub(nn.Module):
    """Makes the buffers of its modules itself, as transformers' models do; not all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.layer.register_buffer("scale", torch.full((3,), 5.0))

    def _init_weights(self, module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            parameter.normal_()
        if hasattr(module, "scale"):
            module.scale.fill_(5.0)


def test_buffers_that_the_model_makes_again_do_not_cost_the_parameters() -> None:
    model = Hub()
    with torch.device("meta"):
        empty = Hub()
    state = torch.get_rng_state()
    for either in (model, empty):
        initialize_(either, "torch", seed=1)
    assert_same(empty, tensors_of(model))
    assert torch.equal(torch.get_rng_state(), state)
    with torch.device("meta"):
        empty = Hub()
        empty.layer.register_buffer("shift", torch.ones(3))
    with pytest.raises(ValueError, match=r"layer\.scale, layer\.shift"):
        initialize_(empty, "torch", seed=1)
    assert all(t.is_meta for t in empty.state_dict().values())


def test_a_lazy_model_is_initialized_once_it_has_seen_a_batch() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(ValueError, match=r"parameter 0\.weight has no shape yet: it is lazy"):
        initialize_(model, "xavier", seed=1)
    model(torch.ones(2, 3, 5, 5))
    assert not any(row.is_kept for row in initialize_(model, "xavier", seed=1))


# ---- Memory ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize(
    ("recipe", "wrap"), [("torch", ""), ("gpt2", ""), ("xavier", "parametrizations.weight_norm")]
)
def test_initialization_takes_little_memory_beyond_the_models(recipe: str, wrap: str) -> None:
    program = f"""
        import threading, torch, pyinit
        from torch import nn
        from torch.nn.utils import parametrizations
        torch.set_num_threads(2)

        def anonymous():
            for line in open("/proc/self/status"):
                if line.startswith("RssAnon"):
                    return int(line.split()[1])

        def build():
            return nn.ModuleDict({{
                "embed": nn.Embedding(20_000, 512),
                "layers": nn.Sequential(*({wrap}(nn.Linear(1024, 1024)) for _ in range(40))),
            }})

        with torch.device("meta"):
            small = nn.Linear(1024, 1024)
        pyinit.initialize_(small, {recipe!r}, seed=1)
        model = pyinit.initialize_(built := build(), "zero") and built
        size = sum(p.numel() * 4 for p in model.parameters()) >> 10
        assert size > 195_000, size
        peak, done = 0, threading.Event()

        def watch():
            global peak
            while not done.wait(0.001):
                peak = max(peak, anonymous())

        thread = threading.Thread(target=watch)
        thread.start()
        while peak == 0:  # what the thread itself takes is there from here on
            pass
        before = anonymous()
        pyinit.initialize_(model, {recipe!r}, seed=1)
        peak = max(peak, anonymous())
        done.set()
        thread.join()
        assert peak - before < 32 << 10, (peak, before)
    """
    # A fixed threshold makes glibc give back at once what is freed, so that the peak is what is in use.
    output_of(program, MALLOC_MMAP_THRESHOLD_="1000000")


@pytest.mark.parametrize("argument", ["only", "skip"])
def test_patterns_that_match_nothing_are_refused(argument: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    before = model[0].weight.detach().clone()
    with pytest.raises(
        ValueError, match=f"{argument}='0.weights' matches no parameter; .*0.weight"
    ):
        initialize_(model, "torch", **{argument: "0.weights"})
    assert torch.equal(model[0].weight, before)
    initialize_(model, "torch", **{argument: lambda _: False})  # a function may say no to all


def test_a_device_without_memory_is_refused() -> None:
    model = nn.Linear(2, 2, device="meta")
    with pytest.raises(ValueError, match="device must be one that has memory, got meta"):
        initialize_(model, device="meta")
    assert model.weight.is_meta


@pytest.mark.parametrize("name", ["original0", "original1"])
def test_a_computed_weight_with_a_frozen_original_stays_as_it_is(name: str) -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    getattr(model[0].parametrizations.weight, name).requires_grad_(False)
    before = {key: value.clone() for key, value in model[0].parametrizations.named_parameters()}
    for start in (pyinit.initialize_, lambda model, **_: pyinit.lsuv_(model, torch.randn(9, 4))):
        start(model, seed=0)
        after = dict(model[0].parametrizations.named_parameters())
        assert all(torch.equal(after[key], value) for key, value in before.items())
