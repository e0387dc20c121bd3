"""The recipes torch, normal, xavier, kaiming, lecun, orthogonal, delta_orthogonal, zero, keras, lstm."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyinit
from pyinit._random.rng import Key
from pyinit.initializers import (
    ONES,
    ZEROS,
    Constant,
    DeltaOrthogonal,
    Dirac,
    Eye,
    Hadamard,
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    Normal,
    Orthogonal,
    OwnReset,
    Padded,
    Parts,
    Uniform,
    XavierNormal,
    XavierUniform,
)
from pyinit.whole_model.network import Network
from pyinit.whole_model.recipes import recipe, recipes

MINE = (
    "delta_orthogonal",
    "kaiming",
    "keras",
    "lecun",
    "lstm",
    "normal",
    "orthogonal",
    "torch",
    "xavier",
    "zero",
)
KAIMING = KaimingUniform(a=math.sqrt(5))


def chosen(model: nn.Module, name: str, **options):
    """Parameter name to initializer."""
    choices = recipe(name, **options).choose(Network(model))
    return {parameter: choice.initializer for parameter, choice in choices.items()}


def filled(model: nn.Module, name: str, **options) -> nn.Module:
    network = Network(model)
    choices = recipe(name, **options).choose(network)
    for stream, site in enumerate(network.sites):
        blocks = choices[site.name].initializer.resolve(site.weight)
        for block in sorted(blocks, key=lambda block: block.wave):
            whole = site.tensor.detach()
            part = whole if block.rows is None else whole[slice(*block.rows)]
            block.drawn.fill_(part, Key(key=2, stream=stream))
    return model


def uniform(bound: float) -> Uniform:
    return Uniform(-bound, bound)


class Conv1D(nn.Module):
    """As in transformers: the weight is (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.empty(nf))


class LlamaRMSNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))


class Gemma2RMSNorm(LlamaRMSNorm):
    """It multiplies by 1 + weight."""


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(3, 4))
        self.inner = nn.Linear(4, 4)

    def reset_parameters(self) -> None:
        nn.init.ones_(self.table)


class OwnLinear(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.ones_(self.bias)


class OwnAttention(nn.MultiheadAttention):
    def _reset_parameters(self) -> None:
        nn.init.ones_(self.in_proj_weight)
        nn.init.ones_(self.in_proj_bias)


class Subclass(nn.Linear):
    """One that is reset as its base, with a parameter that is not reset at all."""

    def __init__(self, *args: int) -> None:
        super().__init__(*args)
        self.extra = nn.Parameter(torch.zeros(3))


AFFINE = {"weight": ONES, "bias": ZEROS}
TORCH = {
    "Linear": (lambda: nn.Linear(9, 4), {"weight": KAIMING, "bias": uniform(1 / 3)}),
    "no bias": (lambda: nn.Linear(9, 4, bias=False), {"weight": KAIMING}),
    "subclass": (lambda: Subclass(9, 4), {"weight": KAIMING, "bias": uniform(1 / 3)}),
    "Conv2d": (
        lambda: nn.Conv2d(4, 6, 3, groups=2),
        {"weight": KAIMING, "bias": uniform(1 / math.sqrt(18))},
    ),
    "Bilinear": (
        lambda: nn.Bilinear(4, 9, 5),
        {"weight": uniform(0.5), "bias": uniform(0.5)},
    ),
    "Embedding": (lambda: nn.Embedding(5, 3), {"weight": Normal()}),
    "padding row": (lambda: nn.Embedding(5, 3, padding_idx=-1), {"weight": Padded(Normal(), 4)}),
    "EmbeddingBag": (
        lambda: nn.EmbeddingBag(5, 3, padding_idx=2),
        {"weight": Padded(Normal(), 2)},
    ),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),
        {
            "in_proj_weight": XavierUniform(),
            "in_proj_bias": ZEROS,
            "bias_k": XavierNormal(),
            "bias_v": XavierNormal(),
            "out_proj.weight": KAIMING,
            "out_proj.bias": ZEROS,
        },
    ),
    "attention of other widths": (
        lambda: nn.MultiheadAttention(4, 2, bias=False, kdim=3, vdim=5),
        {
            "q_proj_weight": XavierUniform(),
            "k_proj_weight": XavierUniform(),
            "v_proj_weight": XavierUniform(),
            "out_proj.weight": KAIMING,
        },
    ),
    "LSTM": (
        lambda: nn.LSTM(3, 4, proj_size=2),
        dict.fromkeys(
            ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "weight_hr_l0"),
            uniform(0.5),
        ),
    ),
    **{
        cell.__name__: (
            lambda cell=cell: cell(3, 4),
            dict.fromkeys(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), uniform(0.5)),
        )
        for cell in (nn.RNNCell, nn.GRUCell, nn.LSTMCell)
    },
    **{
        norm.__name__: (lambda norm=norm: norm(4), AFFINE)
        for norm in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.LayerNorm)
    },
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, affine=True), AFFINE),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), AFFINE),
    "RMSNorm": (lambda: nn.RMSNorm(4), {"weight": ONES}),
    "PReLU": (lambda: nn.PReLU(init=0.1), {"weight": Constant(0.1)}),
    "Conv1D": (lambda: Conv1D(6, 4), {"weight": Normal(std=0.02), "bias": ZEROS}),
    "LlamaRMSNorm": (lambda: LlamaRMSNorm(4), {"weight": ONES}),
    "Gemma2RMSNorm": (lambda: Gemma2RMSNorm(4), {"weight": ZEROS}),
    "softmax by its parts": (
        lambda: nn.AdaptiveLogSoftmaxWithLoss(16, 9, [4]),
        {"head.weight": KAIMING, "tail.0.0.weight": KAIMING, "tail.0.1.weight": KAIMING},
    ),
    "own": (
        Own,
        {"table": OwnReset(), "inner.weight": KAIMING, "inner.bias": uniform(0.5)},
    ),
    "own subclass": (lambda: OwnLinear(4, 4), dict.fromkeys(("weight", "bias"), OwnReset())),
    "own attention": (
        lambda: OwnAttention(4, 2),
        {
            "in_proj_weight": OwnReset(),
            "in_proj_bias": OwnReset(),
            "out_proj.weight": KAIMING,
            "out_proj.bias": uniform(0.5),
        },
    ),
}


@pytest.mark.parametrize(("build", "wanted"), TORCH.values(), ids=TORCH)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_torch_knows_the_default_of(build: Callable[[], nn.Module], wanted, device: str) -> None:
    with torch.device(device):
        model = build()
    if device == "meta" and isinstance(model, Subclass):
        wanted = {**wanted, "extra": ZEROS}  # without values, its constructor's source counts
    assert chosen(model, "torch") == wanted


SCRATCH = {
    "Linear": lambda: nn.Linear(300, 200),
    "Conv1d": lambda: nn.Conv1d(40, 60, 5),
    "Conv2d": lambda: nn.Conv2d(64, 48, 3, groups=4),
    "Conv3d": lambda: nn.Conv3d(16, 20, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(60, 30, 4),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(48, 24, 3, groups=2),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(20, 10, 3),
    "Bilinear": lambda: nn.Bilinear(20, 30, 40),
    "Embedding": lambda: nn.Embedding(400, 50, padding_idx=3),
    "EmbeddingBag": lambda: nn.EmbeddingBag(400, 50),
    "MultiheadAttention": lambda: nn.MultiheadAttention(96, 4, add_bias_kv=True),
    "attention of other widths": lambda: nn.MultiheadAttention(96, 4, kdim=48, vdim=80),
    "RNN": lambda: nn.RNN(50, 60, 2, bidirectional=True),
    "GRU": lambda: nn.GRU(50, 60),
    "LSTM": lambda: nn.LSTM(50, 60, proj_size=40),
    "RNNCell": lambda: nn.RNNCell(50, 60),
    "GRUCell": lambda: nn.GRUCell(50, 60),
    "LSTMCell": lambda: nn.LSTMCell(50, 60),
    "BatchNorm2d": lambda: nn.BatchNorm2d(40),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(40, affine=True),
    "LayerNorm": lambda: nn.LayerNorm(40),
    "GroupNorm": lambda: nn.GroupNorm(4, 40),
    "RMSNorm": lambda: nn.RMSNorm(40),
    "PReLU": lambda: nn.PReLU(40),
    "Transformer": lambda: nn.Transformer(64, 4, 1, 1, 96, batch_first=True),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(64, 500, [50, 200]),
    "pyinit's Conv2d": lambda: pyinit.nn.Conv2d(64, 48, 3),
}


def errors(count: int) -> tuple[float, float]:
    """Relative tolerances for a sample's standard deviation and for its extremes, five sigmas."""
    return 5 * math.sqrt(2 * 2 / count), 8 / count


@pytest.mark.parametrize("build", SCRATCH.values(), ids=SCRATCH)
def test_torch_is_distributed_as_what_torch_constructs(build: Callable[[], nn.Module]) -> None:
    theirs = dict(build().named_parameters())
    ours = dict(filled(build(), "torch").named_parameters())
    initializers = chosen(build(), "torch")
    for name, tensor in ours.items():
        other = theirs[name].detach()
        std, extreme = errors(tensor.numel())
        torch.testing.assert_close(
            tensor.detach().square().mean().sqrt(),
            other.square().mean().sqrt(),
            rtol=std,
            atol=1e-7,
            msg=name,
        )
        if not isinstance(initializers[name], (Normal, Padded, XavierNormal)):
            torch.testing.assert_close(
                tensor.detach().abs().max(),
                other.abs().max(),
                rtol=2 * extreme,
                atol=1e-7,
                msg=name,
            )


def same_as(model: nn.Module, leaf: str, call: Callable[[Tensor, Key], Tensor]) -> bool:
    """Whether the recipe torch gives the same bits as a call, from the same key."""
    network = Network(model)
    site = network.by_name[leaf]
    (block,) = chosen(model, "torch")[leaf].resolve(site.weight)
    key = Key(key=7, stream=1)
    block.drawn.fill_(site.tensor, key)
    return torch.equal(site.tensor, call(torch.empty(site.shape), key))


KAIMING_LAYERS = {
    name: SCRATCH[name] for name in SCRATCH if name.startswith(("Linear", "Conv", "pyinit"))
}


@pytest.mark.parametrize("build", KAIMING_LAYERS.values(), ids=KAIMING_LAYERS)
def test_torch_has_the_bits_of_kaiming_uniform(build: Callable[[], nn.Module]) -> None:
    assert same_as(
        build(), "weight", lambda t, key: pyinit.kaiming_uniform_(t, a=math.sqrt(5), generator=key)
    )


def test_torch_has_the_bits_of_xavier_in_attention() -> None:
    model = nn.MultiheadAttention(12, 3, add_bias_kv=True)
    assert same_as(model, "in_proj_weight", lambda t, key: pyinit.xavier_uniform_(t, generator=key))
    assert same_as(model, "bias_k", lambda t, key: pyinit.xavier_normal_(t, generator=key))


def test_a_transformer_resets_all_of_its_matrices() -> None:
    model = nn.Sequential(nn.Transformer(8, 2, 1, 1, 12, batch_first=True), nn.Linear(8, 8))
    initializers = chosen(model, "torch")
    for name, parameter in model[0].named_parameters(prefix="0"):
        assert (initializers[name] == XavierUniform()) == (parameter.dim() > 1), name
    assert initializers["1.weight"] == KAIMING


def test_a_transformer_counts_fans_as_torch_does() -> None:
    def build() -> nn.Module:
        return nn.Transformer(
            8, 2, custom_encoder=nn.Conv2d(8, 16, 3, groups=4), num_decoder_layers=1
        )

    assert same_as(
        build(), "encoder.weight", lambda t, key: pyinit.xavier_uniform_(t, generator=key)
    )


def test_parameters_without_a_known_start_are_left_out() -> None:
    model = nn.Module()
    model.token = nn.Parameter(torch.zeros(1, 1, 4))
    for name in MINE:
        assert chosen(model, name) == {}


def test_a_tied_parameter_goes_by_the_first_place_that_is_known() -> None:
    model = nn.Module()
    model.bias = nn.Parameter(torch.zeros(3))
    model.decoder = nn.Linear(16, 3)
    model.decoder.bias = model.bias
    assert chosen(model, "torch")["bias"] == uniform(0.25)
    assert chosen(model, "xavier")["bias"] == ZEROS


def test_what_a_surgeon_put_in_counts() -> None:
    model = nn.Conv2d(3, 8, 1)
    model.weight = nn.Parameter(torch.empty(8, 1, 1, 1))
    assert chosen(model, "torch")["bias"] == uniform(1.0)


def test_a_parametrized_weight_is_a_weight() -> None:
    model = nn.utils.parametrizations.weight_norm(nn.Linear(16, 4))
    assert chosen(model, "torch") == {"weight": KAIMING, "bias": uniform(0.25)}
    assert chosen(model, "orthogonal") == {"weight": Orthogonal(), "bias": ZEROS}


def test_planning_leaves_the_state_of_a_parametrization_alone() -> None:
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(16, 4))
    network = Network(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    for name in MINE:
        recipe(name).choose(network)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())


# ---- The same for all layers ----------------------------------------------------------------------

ONE_FOR_ALL = {
    "xavier": XavierUniform(),
    "kaiming": KaimingNormal(nonlinearity="relu"),
    "lecun": LecunNormal(),
    "orthogonal": Orthogonal(),
}
WEIGHTS = {
    "Linear": (lambda: nn.Linear(4, 6), {"weight": 1}),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2), {"weight": 1}),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3), {"weight": 1}),
    "Conv1D": (lambda: Conv1D(6, 4), {"weight": 1}),
    "Bilinear": (lambda: nn.Bilinear(2, 3, 4), {"weight": 1}),
    "MultiheadAttention": (
        lambda: nn.MultiheadAttention(4, 2),
        {"in_proj_weight": 3, "out_proj.weight": 1},
    ),
    "attention of other widths": (
        lambda: nn.MultiheadAttention(4, 2, kdim=2, vdim=3),
        {"q_proj_weight": 1, "k_proj_weight": 1, "v_proj_weight": 1, "out_proj.weight": 1},
    ),
    "RNN": (
        lambda: nn.RNN(3, 4, bidirectional=True),
        dict.fromkeys(
            ("weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse"), 1
        ),
    ),
    "GRUCell": (lambda: nn.GRUCell(3, 4), {"weight_ih": 3, "weight_hh": 3}),
    "LSTM": (
        lambda: nn.LSTM(3, 4, proj_size=2),
        {"weight_ih_l0": 4, "weight_hh_l0": 4, "weight_hr_l0": 1},
    ),
}


@pytest.mark.parametrize("name", ONE_FOR_ALL)
@pytest.mark.parametrize(("build", "matrices"), WEIGHTS.values(), ids=WEIGHTS)
def test_each_matrix_is_initialized_and_biases_are_zero(
    name: str, build: Callable[[], nn.Module], matrices: dict[str, int]
) -> None:
    model, one = build(), ONE_FOR_ALL[name]
    wanted = {parameter: ZEROS for parameter, _ in model.named_parameters()} | {
        weight: one if count == 1 else Parts((one,) * count) for weight, count in matrices.items()
    }
    assert chosen(model, name) == wanted


OTHERS = {
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), AFFINE),
    "LayerNorm": (lambda: nn.LayerNorm(4), AFFINE),
    "LlamaRMSNorm": (lambda: LlamaRMSNorm(4), {"weight": ONES}),
    "Gemma2RMSNorm": (lambda: Gemma2RMSNorm(4), {"weight": ZEROS}),
    "PReLU": (lambda: nn.PReLU(init=0.1), {"weight": Constant(0.1)}),
    "Embedding": (
        lambda: nn.Embedding(5, 4, padding_idx=1),
        {"weight": Padded(Normal(std=0.02), 1)},
    ),
}


@pytest.mark.parametrize("name", [*ONE_FOR_ALL, "delta_orthogonal", "zero"])
@pytest.mark.parametrize(("build", "wanted"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_weight_starts_the_same_in_all_of_them(
    name: str, build: Callable[[], nn.Module], wanted
) -> None:
    assert chosen(build(), name) == wanted


def test_tokens_of_attention_are_normal() -> None:
    initializers = chosen(nn.MultiheadAttention(4, 2, add_bias_kv=True), "orthogonal")
    assert initializers["bias_k"] == initializers["bias_v"] == Normal(std=0.02)


def test_options_reach_the_initializers() -> None:
    model = nn.Linear(4, 6)
    assert chosen(model, "normal")["weight"] == Normal(std=0.01)
    assert chosen(model, "normal", std=0.5)["weight"] == Normal(std=0.5)
    assert chosen(nn.Embedding(4, 6), "normal", std=0.5)["weight"] == Normal(std=0.5)
    assert chosen(model, "orthogonal", gain=2.0)["weight"] == Orthogonal(2.0)
    by_fan_out = KaimingNormal(mode="fan_out", nonlinearity="relu")
    assert chosen(model, "kaiming", mode="fan_out")["weight"] == by_fan_out


@pytest.mark.parametrize(
    ("name", "options"), [("normal", {"std": -1.0}), ("kaiming", {"mode": "fan"})]
)
def test_bad_options_are_refused(name: str, options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options)) if name == "normal" else "Mode fan"):
        chosen(nn.Linear(2, 2), name, **options)


def test_xavier_counts_the_fans_of_a_grouped_convolution() -> None:
    model = filled(nn.Conv2d(512, 512, 3, groups=512), "xavier")
    assert model.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 18), rel=0.01)


@pytest.mark.parametrize(
    ("build", "wanted"),
    [
        (lambda: nn.Conv2d(4, 6, 3), DeltaOrthogonal()),
        (lambda: nn.Conv1d(4, 4, 3, groups=4), DeltaOrthogonal()),
        (lambda: nn.ConvTranspose2d(4, 4, 3), DeltaOrthogonal()),
        (lambda: nn.Conv2d(6, 4, 3), Orthogonal()),
        (lambda: nn.ConvTranspose2d(4, 6, 3), Orthogonal()),
        (lambda: nn.ConvTranspose2d(6, 4, 3), Orthogonal()),
        (lambda: nn.Linear(4, 6), Orthogonal()),
        (lambda: nn.Bilinear(4, 4, 6), Orthogonal()),
    ],
)
def test_delta_orthogonal_where_a_convolution_can_be(build, wanted) -> None:
    with torch.device("meta"):
        network = Network(build())
    choices = recipe("delta_orthogonal").choose(network)
    assert choices["weight"].initializer == wanted
    choices["weight"].initializer.resolve(network.by_name["weight"].weight)


def test_delta_orthogonal_keeps_the_norm_of_what_a_convolution_reads() -> None:
    model = filled(nn.Conv2d(5, 7, 3, padding=1, padding_mode="circular"), "delta_orthogonal")
    x = torch.randn(2, 5, 8, 8)
    torch.testing.assert_close(model(x).norm(), x.norm())


@pytest.mark.parametrize(
    ("build", "leaf", "wanted"),
    [
        (lambda: nn.Linear(4, 4), "weight", Eye()),
        (lambda: nn.Linear(6, 4), "weight", Eye()),
        (lambda: nn.Linear(4, 6), "weight", Hadamard()),
        (lambda: Conv1D(6, 4), "weight", Eye()),
        (lambda: Conv1D(4, 6), "weight", Eye()),
        (lambda: nn.Conv2d(4, 4, 3), "weight", Dirac()),
        (lambda: nn.Conv2d(4, 8, 3), "weight", Hadamard()),
        (lambda: nn.Conv2d(4, 8, 3, groups=2), "weight", Parts((Hadamard(),) * 2)),
        (lambda: nn.Conv2d(4, 4, 3, groups=4), "weight", Dirac()),
        (lambda: nn.ConvTranspose2d(4, 8, 3), "weight", Dirac()),
        (lambda: nn.Bilinear(4, 4, 4), "weight", ZEROS),
        (lambda: nn.MultiheadAttention(4, 2), "in_proj_weight", Parts((Eye(),) * 3)),
        (lambda: nn.LSTMCell(2, 4), "weight_ih", Parts((Hadamard(),) * 4)),
        (lambda: nn.LSTMCell(2, 4), "weight_hh", Parts((Eye(),) * 4)),
    ],
)
def test_zero_goes_by_the_channels_of_each_matrix(build, leaf: str, wanted) -> None:
    model = build()
    assert chosen(model, "zero")[leaf] == wanted
    filled(model, "zero")


def test_zero_is_hadamard_in_algorithm_1() -> None:
    """A layer of as many or fewer outputs has what ``hadamard_`` would give it."""
    for outputs in (3, 4, 7):
        model = filled(nn.Linear(4, outputs), "zero")
        assert torch.equal(model.weight, pyinit.hadamard_(torch.empty(outputs, 4)))


def test_zero_passes_a_depthwise_convolution_on() -> None:
    model = filled(nn.Conv2d(3, 3, 3, padding=1, groups=3), "zero")
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(model(x), x)


# ---- Recurrent layers -----------------------------------------------------------------------------


def is_semi_orthogonal(matrix: Tensor) -> bool:
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    return torch.allclose(gram, torch.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize(
    ("build", "leaf", "gates"),
    [
        (lambda: nn.LSTM(5, 8), "weight_hh_l0", 4),
        (lambda: nn.LSTM(5, 8, 2, bidirectional=True), "weight_hh_l1_reverse", 4),
        (lambda: nn.LSTM(5, 8, proj_size=3), "weight_hh_l0", 4),
        (lambda: nn.LSTMCell(5, 8), "weight_hh", 4),
        (lambda: nn.GRU(5, 8), "weight_hh_l0", 3),
        (lambda: nn.RNN(5, 8), "weight_hh_l0", 1),
    ],
)
@pytest.mark.parametrize("name", ["lstm", "orthogonal", "keras"])
def test_recurrent_weights_are_orthogonal(build, leaf: str, gates: int, name: str) -> None:
    weight = filled(build(), name).get_parameter(leaf).detach()
    matrices = [weight] if name == "keras" else weight.chunk(gates)
    assert all(is_semi_orthogonal(matrix) for matrix in matrices)


@pytest.mark.parametrize("name", ["lstm", "keras"])
@pytest.mark.parametrize(
    ("build", "opens"),
    [
        (lambda: nn.LSTM(3, 4, 2, bidirectional=True), True),
        (lambda: nn.LSTMCell(3, 4), True),
        (lambda: nn.GRU(3, 4), False),
        (lambda: nn.RNNCell(3, 4), False),
    ],
)
def test_the_forget_gate_of_an_lstm_is_open_and_other_biases_are_0(
    name: str, build: Callable[[], nn.Module], opens: bool
) -> None:
    for leaf, bias in filled(build(), name).named_parameters():
        if leaf.startswith("bias"):
            wanted = torch.zeros_like(bias)
            if opens and leaf.startswith("bias_ih"):
                wanted[4:8] = 1.0
            assert torch.equal(bias, wanted), leaf


def test_input_weights_of_an_lstm_go_by_gate_or_as_keras_by_all_of_them() -> None:
    model = nn.LSTM(20, 30)
    by_gate = filled(model, "lstm").weight_ih_l0.abs().max().item()
    assert by_gate == pytest.approx(math.sqrt(6 / (20 + 30)), rel=0.01)
    at_once = filled(model, "keras").weight_ih_l0.abs().max().item()
    assert at_once == pytest.approx(math.sqrt(6 / (20 + 120)), rel=0.01)


def test_lstm_leaves_other_layers_to_torch() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Embedding(3, 4))
    assert chosen(model, "lstm") == chosen(model, "torch")


KERAS = {
    "Dense": (lambda: nn.Linear(4, 6), {"weight": XavierUniform(), "bias": ZEROS}),
    "Conv2D": (lambda: nn.Conv2d(4, 6, 3), {"weight": XavierUniform(), "bias": ZEROS}),
    "groups": (
        lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False),
        {"weight": uniform(math.sqrt(3.0) * math.sqrt(2.0 / (18 + 54)))},
    ),
    "Conv2DTranspose": (
        lambda: nn.ConvTranspose2d(4, 6, 3, bias=False),
        {"weight": XavierUniform()},
    ),
    "Embedding": (lambda: nn.Embedding(5, 4), {"weight": Uniform(-0.05, 0.05)}),
    "padding row": (
        lambda: nn.Embedding(5, 4, padding_idx=0),
        {"weight": Padded(Uniform(-0.05, 0.05), 0)},
    ),
    "BatchNormalization": (lambda: nn.BatchNorm2d(4), AFFINE),
    "GRU": (
        lambda: nn.GRUCell(3, 4),
        {
            "weight_ih": XavierUniform(),
            "weight_hh": Orthogonal(),
            "bias_ih": ZEROS,
            "bias_hh": ZEROS,
        },
    ),
}


@pytest.mark.parametrize(("build", "wanted"), KERAS.values(), ids=KERAS)
def test_keras_knows_the_default_of(build: Callable[[], nn.Module], wanted) -> None:
    assert chosen(build(), "keras") == wanted


# ---- All of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "normal", "lstm", "keras", "xavier"])
def test_padding_rows_are_zero(name: str) -> None:
    model = filled(nn.Embedding(6, 4, padding_idx=2), name)
    assert not model.weight[2].any()
    assert model.weight[[0, 1, 3, 4, 5]].all()


@pytest.mark.parametrize("name", MINE)
def test_recipes_say_what_they_do_and_why(name: str) -> None:
    known = recipes()[name]
    assert known.summary
    assert known.source
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.LSTM(8, 8), nn.Embedding(3, 4))
    choices = known.choose(Network(model))
    assert list(choices) == [parameter for parameter, _ in model.named_parameters()]
    assert all(choice.why for choice in choices.values())


@pytest.mark.parametrize(
    ("name", "meant"),
    [("he", "kaiming"), ("Glorot", "xavier"), ("zeros", "zero"), ("default", "torch")],
)
def test_names_that_others_have_for_a_recipe_are_told(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"unknown recipe '{name}'; did you mean {meant}"):
        recipe(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("normal", {"std": "x"}, "option 'std' of recipe 'normal' must be a number, got 'x'"),
        ("normal", {"std": True}, "option 'std' of recipe 'normal' must be a number, got True"),
        ("resnet", {"zero_last": 1}, "'zero_last' of recipe 'resnet' must be true or false, got 1"),
        ("kaiming", {"mode": 2}, "option 'mode' of recipe 'kaiming' must be a text, got 2"),
    ],
)
def test_options_of_another_type_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(name, **options)


def test_an_option_may_be_any_number() -> None:
    assert recipe("normal", std=np.float32(0.5)).options == {"std": 0.5}


def test_unknown_recipes_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown recipe 'kaimign'; did you mean kaiming"):
        recipe("kaimign")
    with pytest.raises(ValueError, match=r"recipe 'normal' has no option 'sdt'; did you mean std"):
        recipe("normal", sdt=1.0)
    with pytest.raises(ValueError, match=r"recipe 'torch' has no option 'std'; it has none"):
        recipe("torch", std=1.0)


def _transformers(name: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
    size |= {"intermediate_size": 32}
    tokens = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    make = {
        "gpt2": lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_layer=2, n_embd=16, n_head=2, **tokens)
        ),
        "llama": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(num_key_value_heads=2, **size, **tokens)
        ),
        "bert": lambda: transformers.BertForPreTraining(transformers.BertConfig(**size, **tokens)),
        "vit": lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(image_size=16, patch_size=8, **size)
        ),
        "resnet": lambda: transformers.ResNetForImageClassification(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        ),
    }
    return make[name]()


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "vit", "resnet"])
def test_every_parameter_of_a_real_model_is_initialized(name: str) -> None:
    with torch.device("meta"):
        model = _transformers(name)
    network = Network(model)
    for known in MINE:
        choices = recipe(known).choose(network)
        assert {site.name for site in network.sites} == choices.keys()
        for parameter, choice in choices.items():
            choice.initializer.resolve(network.by_name[parameter].weight)
