"""What the recipe ``auto`` decides, and that deep networks keep their variance under it."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pyinit
from pyinit import calculate_gain
from pyinit._graph.graph import ActivationKind
from pyinit._random.rng import Key
from pyinit.initializers import (
    ONES,
    ZEROS,
    Constant,
    Dirac,
    Eye,
    Initializer,
    KaimingNormal,
    LecunNormal,
    Normal,
    Orthogonal,
    Padded,
    Parts,
    PriorBias,
    TruncNormal,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
    gain_of,
)
from pyinit.models.gpt2 import GPT2
from pyinit.models.resnet import ResNet
from pyinit.models.vit import VisionTransformer
from pyinit.whole_model.network import Network
from pyinit.whole_model.recipes import Choice, chains, recipe


def choices(model: nn.Module, **options: float) -> dict[str, Choice]:
    return dict(recipe("auto", **options).choose(Network(model)))


def chosen(model: nn.Module, **options: float) -> dict[str, Initializer]:
    return {name: choice.initializer for name, choice in choices(model, **options).items()}


def fill_(model: nn.Module, seed: int) -> None:
    network = Network(model)
    choice = recipe("auto").choose(network)
    stream = 0
    for site in network.sites:
        blocks = choice[site.name].initializer.resolve(site.weight)
        for block in sorted(blocks, key=lambda block: block.wave):
            tensor = site.tensor.detach()
            stream += 1
            block.drawn.fill_(tensor[slice(*(block.rows or (None,)))], Key(seed, stream))


# ---- Layers by what follows ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (nn.ReLU(), KaimingNormal(nonlinearity="relu")),
        (nn.LeakyReLU(0.2), KaimingNormal(0.2, nonlinearity="leaky_relu")),
        (nn.PReLU(init=0.1), KaimingNormal(0.1, nonlinearity="leaky_relu")),
        (nn.GELU(), KaimingNormal(nonlinearity="gelu")),
        (nn.SiLU(), KaimingNormal(nonlinearity="silu")),
        (nn.ELU(), KaimingNormal(nonlinearity="elu")),
        (nn.Softplus(), KaimingNormal(nonlinearity="softplus")),
        (nn.ELU(2.0), KaimingNormal(nonlinearity=calculate_gain(nn.ELU(2.0)))),
        (nn.SELU(), LecunNormal()),
        (nn.Sigmoid(), XavierNormal()),
        (nn.Tanh(), XavierNormal(5 / 3)),
        (nn.Identity(), LecunNormal()),
        (nn.Threshold(0.0, 0.0), KaimingNormal(nonlinearity="relu")),
        (
            nn.Threshold(0.1, 0.0),
            KaimingNormal(nonlinearity=calculate_gain(nn.Threshold(0.1, 0.0))),
        ),
        (nn.LogSigmoid(), KaimingNormal(nonlinearity="logsigmoid")),
    ],
    ids=str,
)
def test_the_activation_that_follows_decides(activation: nn.Module, expected: Initializer) -> None:
    found = chosen(nn.Sequential(nn.Linear(8, 8), activation, nn.Linear(8, 2)))
    assert found["0.weight"] == expected
    assert found["0.bias"] == ZEROS
    assert found["2.weight"] == LecunNormal()


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (functional.logsigmoid, "logsigmoid"),
        (lambda x: functional.threshold(x, 0.0, 0.0), "relu"),
    ],
)
def test_functions_that_torch_calls_otherwise_are_known(
    activation: Callable[[Tensor], Tensor], name: str
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Any:
            return self.b(activation(self.a(x)))

    assert chosen(Net())["a.weight"] == KaimingNormal(nonlinearity=name)


@pytest.mark.parametrize("prior", [0, 1, 1.5, "a"])
def test_a_prior_that_is_no_probability_is_refused_by_its_name(prior: Any) -> None:
    with pytest.raises(ValueError, match=r"prior.* must be a number"):
        recipe("auto", prior=prior).choose(Network(nn.Linear(2, 2)))


def test_a_norm_does_for_tanh_what_its_gain_would() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))
    assert chosen(model)["0.weight"] == XavierNormal(1.0)


def test_a_resnet_is_he_throughout_and_its_branches_end_in_norms_of_one() -> None:
    with torch.device("meta"):
        found = choices(ResNet(blocks=(2, 1), width=8))
    for name, (initializer, why) in found.items():
        if "conv" in name or "downsample.0" in name:
            assert initializer == KaimingNormal(nonlinearity="relu"), name
        elif "bn" in name or "downsample.1" in name:
            assert initializer == (ONES if name.endswith("weight") else ZEROS), name
        if name.endswith("conv3.weight"):
            assert "which a norm scales" in why
    assert found["fc.weight"] == Choice(LecunNormal(), "head")
    assert "next to BatchNorm2d" in found["layer1.0.conv1.weight"].why


def test_a_gpt2_ends_its_branches_small() -> None:
    with torch.device("meta"):
        model = GPT2(vocab=50, context=8, width=16, layers=2, heads=2)
    found = choices(model)
    block = "transformer.h.1"
    assert found[f"{block}.attn.c_attn.weight"].initializer == Parts((XavierUniform(),) * 3)
    assert found[f"{block}.mlp.c_fc.weight"].initializer == KaimingNormal(nonlinearity="gelu")
    for last in ("attn.c_proj", "mlp.c_proj"):
        initializer, why = found[f"{block}.{last}.weight"]
        assert initializer == VarianceScaling(1 / 4)
        assert "ends a residual branch, 1 of 4" in why
    assert found["transformer.wte.weight"].initializer == Normal(0.0, 1 / 4)
    assert found.keys() == {name for name, _ in model.named_parameters()}


def test_a_vit_has_its_own_attention_and_tokens() -> None:
    with torch.device("meta"):
        found = chosen(VisionTransformer(image=32, width=16, layers=2, heads=2, hidden=32))
    attention = "encoder.layers.encoder_layer_1.self_attention"
    assert found[f"{attention}.in_proj_weight"] == Parts((XavierUniform(),) * 3)
    assert found[f"{attention}.in_proj_bias"] == ZEROS
    assert found[f"{attention}.out_proj.weight"] == VarianceScaling(1 / 4)
    assert found["class_token"] == found["encoder.pos_embedding"] == TruncNormal(std=0.02)


def test_the_prior_is_the_heads_bias_alone() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    found = chosen(model, prior=0.02)
    assert found["2.bias"] == PriorBias(0.02)
    assert found["0.bias"] == ZEROS


# ---- Other modules -------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_weights_are_made_gate_by_gate(cls: type[nn.RNNBase], gates: int) -> None:
    found = chosen(cls(6, 8, num_layers=2, bidirectional=True))

    def by_gates(initializer: Initializer) -> Initializer:
        return initializer if gates == 1 else Parts((initializer,) * gates)

    for suffix in ("l0", "l1", "l0_reverse"):
        assert found[f"weight_ih_{suffix}"] == by_gates(XavierUniform())
        assert found[f"weight_hh_{suffix}"] == by_gates(Orthogonal())
        assert found[f"bias_hh_{suffix}"] == ZEROS
        forget = Parts((ZEROS, ONES, ZEROS, ZEROS)) if gates == 4 else ZEROS
        assert found[f"bias_ih_{suffix}"] == forget


def test_a_cell_is_like_its_layer_and_a_projection_is_filled() -> None:
    assert chosen(nn.LSTMCell(6, 8))["bias_ih"] == Parts((ZEROS, ONES, ZEROS, ZEROS))
    found = chosen(nn.LSTM(6, 8, proj_size=4))
    assert found["weight_hr_l0"] == XavierUniform()


@pytest.mark.parametrize(("normed", "std"), [(True, 1 / 4), (False, 1.0)])
def test_an_embedding_has_rows_of_length_one_where_a_norm_follows(normed: bool, std: float) -> None:
    norm = nn.LayerNorm(16) if normed else nn.Identity()
    model = nn.Sequential(nn.Embedding(10, 16, padding_idx=0), norm, nn.Linear(16, 2))
    assert chosen(model)["0.weight"] == Padded(Normal(0.0, std), 0)


class Separable(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU6(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )


def test_depthwise_convolutions_have_the_fan_of_one_channel() -> None:
    model = nn.Sequential(Separable(8, 16), Separable(16, 32))
    found = chosen(model)
    assert found["1.0.weight"] == KaimingNormal(nonlinearity="relu6")
    site = Network(model).by_name["1.0.weight"]
    gain = calculate_gain(nn.ReLU6())
    assert found["1.0.weight"].target_std(site.weight) == pytest.approx(gain / 3)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.join = nn.Conv2d(16, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = functional.elu(self.down(x))
        x = functional.elu(self.middle(first))
        x = torch.cat((first, self.up(x)), 1)
        return self.out(functional.elu(self.join(x)))


def test_a_unet_is_followed_through_its_joins() -> None:
    model = UNet()
    found = choices(model)
    for layer in ("down", "middle", "join"):
        assert found[f"{layer}.weight"].initializer == KaimingNormal(nonlinearity="elu")
    up = found["up.weight"].initializer
    assert up == LecunNormal()
    assert up.target_std(Network(model).by_name["up.weight"].weight) == pytest.approx(1 / 8)
    assert found["out.weight"] == Choice(LecunNormal(), "head")


def test_prelu_keeps_the_slope_it_was_made_with() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU(init=0.1))
    assert chosen(model)["1.weight"] == Constant(0.1)


class OnesNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * functional.normalize(x, dim=-1)


class ZerosNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return (1 + self.weight) * functional.normalize(x, dim=-1)


def test_norms_that_torch_does_not_have_start_as_their_constructors_fill_them() -> None:
    found = chosen(nn.Sequential(OnesNorm(), ZerosNorm(), nn.Linear(4, 4)))
    assert found["0.weight"] == ONES
    assert found["1.weight"] == ZEROS


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.layer_scale = nn.Linear(4, 4), nn.Parameter(torch.full((4,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer_scale * self.fc(x)


def test_what_is_not_known_is_kept() -> None:
    assert chosen(Scaled()).keys() == {"fc.weight", "fc.bias"}


def test_queries_keys_and_values_in_a_transposed_layer_have_their_own_fans() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=0
    )
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(config)
    name = "transformer.h.0.attn.c_attn.weight"
    weight = Network(model).by_name[name].weight
    assert chosen(model)[name].target_std(weight) == pytest.approx(math.sqrt(2 / 32))


@pytest.mark.parametrize(
    ("name", "config", "arguments"),
    [
        ("LlamaForCausalLM", "LlamaConfig", {"vocab_size": 50}),
        ("BertForMaskedLM", "BertConfig", {"vocab_size": 50}),
        ("ViTForImageClassification", "ViTConfig", {}),
    ],
)
def test_nothing_of_a_transformer_is_left_out(
    name: str, config: str, arguments: dict[str, int]
) -> None:
    transformers = pytest.importorskip("transformers")
    arguments = arguments | {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 32}
    with torch.device("meta"):
        model = getattr(transformers, name)(
            getattr(transformers, config)(num_attention_heads=2, **arguments)
        )
    network = Network(model)
    found = recipe("auto").choose(network)
    kept = {site.name for site in network.sites} - found.keys()
    assert kept <= {"cls.predictions.bias"}
    for site in network.sites:
        if site.name in found:
            found[site.name].initializer.resolve(site.weight)


# ---- Deep chains ---------------------------------------------------------------------------------


def chain(activation: type[nn.Module], width: int, depth: int = 50) -> nn.Sequential:
    return nn.Sequential(
        *(part for _ in range(depth) for part in (nn.Linear(width, width), activation()))
    )


@torch.no_grad()
def variances(model: nn.Sequential, width: int, seed: int) -> list[float]:
    """Over batch and units, of each linear layer's output for standard normal inputs."""
    x = torch.randn(64, width, generator=torch.Generator().manual_seed(seed))
    found = []
    for module in model:
        x = module(x)
        if isinstance(module, nn.Linear):
            found.append(x.var().item())
    return found


@pytest.mark.parametrize("width", [512, 1024])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_fifty_layers_keep_their_variance(activation: type[nn.Module], width: int) -> None:
    model = chain(activation, width)
    assert variances(model, width, 0)[-1] < 0.5  # as torch made it
    for seed in range(3):
        fill_(model, seed)
        found = variances(model, width, seed)
        assert min(found) > 0.5
        assert max(found) < 2


@pytest.mark.parametrize("activation", [nn.SiLU, nn.ELU, nn.SELU])
def test_other_activations_keep_it_too(activation: type[nn.Module]) -> None:
    model = chain(activation, 512)
    fill_(model, 0)
    found = variances(model, 512, 0)
    assert min(found) > 0.5
    assert max(found) < 2


def test_a_deep_chain_of_relu_hands_its_gradient_on() -> None:
    model = chain(nn.ReLU, 512)
    fill_(model, 0)
    x = torch.randn(16, 512, requires_grad=True)
    y = model(x)
    direction = torch.randn_like(y)
    (gradient,) = torch.autograd.grad(y, x, direction)
    assert gradient.norm() > direction.norm() / 100


def test_the_first_layer_of_a_deep_chain_takes_data() -> None:
    found = choices(chain(nn.ReLU, 64, depth=8))
    assert found["0.weight"] == Choice(LecunNormal(), "first of 8 layers without a norm")
    assert found["0.bias"].initializer == ZEROS


@pytest.mark.parametrize("depth", [2, 7])
def test_shallow_chains_are_as_usual(depth: int) -> None:
    found = chosen(chain(nn.GELU, 16, depth))
    assert found["0.weight"] == KaimingNormal(nonlinearity="gelu")
    assert found["2.bias"] == ZEROS


def test_an_activation_known_by_its_gain_alone_feeds_a_deep_chain_by_it() -> None:
    parts = (p for _ in range(10) for p in (nn.Linear(16, 16), nn.ELU(2.0)))
    found = chosen(nn.Sequential(*parts))
    assert found["2.weight"] == KaimingNormal(nonlinearity=calculate_gain(nn.ELU(2.0)))
    assert found["2.bias"] == ZEROS


def test_without_biases_a_deep_chain_has_the_gain_of_what_feeds_it() -> None:
    parts = (p for _ in range(10) for p in (nn.Linear(16, 16, bias=False), nn.GELU()))
    assert chosen(nn.Sequential(*parts))["2.weight"] == KaimingNormal(nonlinearity=gain_of("gelu"))


def test_a_wide_relu_chain_is_he_s() -> None:
    balance = chains.balance(ActivationKind("relu"), 50, None)
    assert balance is not None
    assert balance.gain == pytest.approx(math.sqrt(2), rel=1e-3)
    assert balance.bias_std == pytest.approx(0, abs=0.02)


def test_a_narrow_chain_is_not_left_to_its_biases() -> None:
    balance = chains.balance(ActivationKind("relu"), 50, 8)
    assert balance is not None
    assert balance.bias_std**2 == pytest.approx(0.2)


def test_tanh_stands_where_neither_variance_nor_gradient_changes() -> None:
    """Schoenholz et al. 2017: the line between order and chaos, at variance 1."""
    balance = chains.balance(ActivationKind("tanh"), 50, 512)
    assert balance is not None
    z = torch.randn(10**6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert balance.gain**2 * (1 - z.tanh() ** 2).square().mean() == pytest.approx(1, rel=5e-3)
    variance = balance.gain**2 * z.tanh().square().mean() + balance.bias_std**2
    assert variance == pytest.approx(1, rel=5e-3)


# ---- Gains ---------------------------------------------------------------------------------------


def test_a_gain_is_computed_once_and_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first = calculate_gain(nn.Softplus(beta=1.25)), calculate_gain(functional.mish)
    monkeypatch.setattr(
        "pyinit._scale.gain._second_moment", lambda _: pytest.fail("computed again")
    )
    assert (calculate_gain(nn.Softplus(beta=1.25)), calculate_gain(functional.mish)) == first


def test_the_gain_of_a_module_follows_its_parameters_and_arguments() -> None:
    module = nn.PReLU(init=0.5)
    assert calculate_gain(module) == pytest.approx(math.sqrt(2 / 1.25))
    with torch.no_grad():
        module.weight.fill_(0.1)
    assert calculate_gain(module) == pytest.approx(math.sqrt(2 / 1.01))
    soft = nn.Softplus(beta=1.0)
    before = calculate_gain(soft)
    soft.beta = 2.0
    assert calculate_gain(soft) != before


class Stretched(nn.Module):
    factor = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x.relu()


def test_the_gain_of_a_users_module_is_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert calculate_gain(Stretched()) == pytest.approx(math.sqrt(2))
    monkeypatch.setattr(Stretched, "factor", 2.0)
    assert calculate_gain(Stretched()) == pytest.approx(math.sqrt(2) / 2)


# ---- Mechanisms that real architectures have -----------------------------------------------------


@pytest.mark.parametrize("layers", [6, 30])
def test_a_fused_activation_counts_as_one_that_stands_behind(layers: int) -> None:
    def names(model: nn.Module) -> list[tuple[Initializer, str]]:
        return [choice for name, choice in choices(model).items() if "weight" in name]

    fused = (pyinit.nn.Conv2d(8, 8, 3, padding=1, activation="relu") for _ in range(layers))
    apart = (m for _ in range(layers) for m in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()))
    assert names(nn.Sequential(*fused)) == names(nn.Sequential(*apart))


def test_thirty_fused_convolutions_keep_the_variance() -> None:
    layers = (pyinit.nn.Conv2d(64, 64, 3, padding=1, activation="relu") for _ in range(30))
    model = nn.Sequential(*layers)
    fill_(model, seed=0)
    x = torch.randn(2, 64, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert model(x).std() > 0.05


class Unscaled(nn.Module):
    """Attention as in T5, which does not divide scores by the root of a head's width."""

    def __init__(self, fused: bool = False) -> None:
        super().__init__()
        self.num_heads = 4
        if fused:
            self.qkv = nn.Linear(64, 192, bias=False)
        else:
            self.q, self.k, self.v = (nn.Linear(64, 64, bias=False) for _ in range(3))
        self.o = nn.Linear(64, 64, bias=False)

    def scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if hasattr(self, "qkv"):
            q, k, v = self.qkv(x).split(64, -1)
        else:
            q, k, v = self.q(x), self.k(x), self.v(x)
        q, k, v = (t.unflatten(-1, (4, 16)).transpose(1, 2) for t in (q, k, v))
        return q @ k.transpose(-2, -1), v

    def forward(self, x: Tensor) -> Tensor:
        scores, v = self.scores(x)
        return x + self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("name", "expected"), [("auto", 1.0), ("xavier", 1.0), ("kaiming", 2.0)])
def test_queries_make_up_for_scores_that_nothing_scales(
    name: str, expected: float, fused: bool
) -> None:
    model = Unscaled(fused)
    report = pyinit.initialize_(model, name, seed=0)
    x = torch.randn(8, 32, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores, _ = model.scores(x)
    assert 0.7 * expected < scores.std() < 1.4 * expected
    row = report["qkv.weight" if fused else "q.weight"]
    assert "nothing scales the scores" in row.why


class TopKRouter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(4, 8)), nn.Parameter(torch.ones(4))


class StackedExperts(nn.Module):
    """Experts as stacks of matrices, (experts, in, out) or (experts, out, in)."""

    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        up, down = ((8, 32), (16, 8)) if is_transposed else ((32, 8), (8, 16))
        self.gate_up_proj = nn.Parameter(torch.ones(4, *up))
        self.gate_up_proj_bias = nn.Parameter(torch.ones(4, 32))
        self.down_proj = nn.Parameter(torch.ones(4, *down))


class MixtureBlock(nn.Module):
    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        self.attn = nn.Linear(8, 8)
        self.gate, self.experts = TopKRouter(), StackedExperts(is_transposed)


class Mixture(nn.Module):
    def __init__(self, is_transposed: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MixtureBlock(is_transposed) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError(f"cannot run on {x}")


@pytest.mark.parametrize("is_transposed", [False, True])
def test_experts_are_matrices_that_end_one_branch(is_transposed: bool) -> None:
    found = choices(Mixture(is_transposed))
    layout = {"transposed": is_transposed, "batch_dims": 1}
    experts = "layers.1.experts"
    assert found[f"{experts}.gate_up_proj"].initializer == VarianceScaling(1.0, **layout)
    assert found[f"{experts}.gate_up_proj_bias"].initializer == ZEROS
    down = found[f"{experts}.down_proj"]
    assert down.initializer == VarianceScaling((1 / math.sqrt(3)) ** 2, **layout)
    assert "1 of 3" in down.why
    assert found["layers.1.gate.weight"] == Choice(VarianceScaling(0.1), "chooses experts")
    assert found["layers.1.gate.bias"].initializer == ZEROS


def test_experts_get_the_std_of_one_matrix() -> None:
    model = Mixture(is_transposed=True)
    report = pyinit.initialize_(model, seed=0)
    row = report["layers.0.experts.gate_up_proj"]
    assert (row.fan_in, row.fan_out) == (8, 32)
    assert row.std == pytest.approx(math.sqrt(1 / 8), rel=0.1)


def test_experts_whose_layout_nothing_tells_are_left_as_they_are() -> None:
    model = Mixture(is_transposed=False)
    for layer in model.layers:
        layer.experts.gate_up_proj = nn.Parameter(torch.ones(4, 16, 8))
    assert "layers.0.experts.down_proj" not in choices(model)


class Mixed(nn.Module):
    """Attention with layers that mix heads."""

    def __init__(self, mixer: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(4, 4, 1) for _ in range(3))
        self.talk = mixer()

    def forward(self, x: Tensor) -> Tensor:
        scores = 0.5 * self.q(x) @ self.k(x).transpose(2, 3)
        return self.talk(scores).softmax(-1) @ self.v(x)


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        (lambda: nn.Linear(4, 4), Eye()),
        (lambda: nn.Conv2d(4, 4, 1), Dirac()),
        (lambda: nn.Conv2d(4, 8, 1), LecunNormal()),
    ],
    ids=["linear", "convolution", "more heads"],
)
def test_layers_that_mix_heads_start_as_the_identity(
    mixer: Callable[[], nn.Module], expected: Initializer
) -> None:
    assert chosen(Mixed(mixer))["talk.weight"] == expected


class UnequalParts(nn.Module):
    """One layer for narrow queries and keys and wide values, as in LeViT."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.kv = nn.Linear(16, 32), nn.Linear(16, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).split([8, 8, 16], -1)
        keys, values = self.kv(x).chunk(2, -1)
        return (0.3 * q @ k.mT).softmax(-1) @ v + (0.3 * x @ keys.mT).softmax(-1) @ values


def test_projections_of_unequal_sizes_are_not_taken_for_two() -> None:
    found = choices(UnequalParts())
    assert found["qkv.weight"].initializer == VarianceScaling(distribution="uniform")
    assert "unequal" in found["qkv.weight"].why
    assert found["kv.weight"].initializer == Parts((XavierUniform(),) * 2)


class WeightStandardizedConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
        return functional.conv2d(x, (self.weight - mean) / var.sqrt(), self.bias, padding=1)


def test_standardized_convolutions_get_no_random_biases() -> None:
    layers = (m for _ in range(12) for m in (WeightStandardizedConv2d(8, 8, 3), nn.GELU()))
    found = choices(nn.Sequential(*layers))
    weights = [choice for name, choice in found.items() if "weight" in name]
    assert weights == [Choice(LecunNormal(), "the layer standardizes its weight itself")] * 12
    assert {choice.initializer for name, choice in found.items() if "bias" in name} == {ZEROS}


class Tied(nn.Module):
    """A head that shares its weight with the embedding, behind a norm and blocks that add a value of the
    size that the stream has; the model may multiply the rows, and what goes into the head."""

    def __init__(self, tokens: int, dim: int, enlarges: float = 1.0, shrinks: bool = False) -> None:
        super().__init__()
        self.config = SimpleNamespace(scale_decoder_outputs=shrinks)
        self.enlarges, self.shrinks = enlarges, dim**-0.5 if shrinks else 1.0
        self.embedding, self.places = nn.Embedding(tokens, dim), nn.Embedding(8, dim)
        self.first, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.block = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, tokens, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.enlarges * (self.embedding(x) + self.places(torch.arange(len(x)) % 8))
        x = x + self.block(self.first(x))
        return self.head(self.norm(x) * self.shrinks)


@pytest.mark.parametrize(
    ("tokens", "dim", "length"),
    [(10, 16, math.log(10) * math.sqrt(2 / 16)), (50, 256, math.log(50) * math.sqrt(2 / 256))],
)
def test_rows_that_a_head_shares_are_short_and_so_are_those_added_to_them(
    tokens: int, dim: int, length: float
) -> None:
    found: dict[str, Any] = chosen(Tied(tokens, dim))
    for name in ("embedding", "places"):
        assert found[f"{name}.weight"].std == pytest.approx(length / math.sqrt(dim))


def test_they_are_no_longer_than_1() -> None:
    assert chosen(Tied(1000, 16))["embedding.weight"] == Normal(0.0, 0.25)


def test_tables_that_no_head_shares_have_rows_of_length_1() -> None:
    model = Tied(10, 64)
    model.head.weight = nn.Parameter(torch.zeros(10, 64))
    assert chosen(model)["embedding.weight"] == Normal(0.0, 1 / 8)
    model.places = model.embedding  # one table in two places
    assert chosen(model)["embedding.weight"] == Normal(0.0, 1 / 8)


@pytest.mark.parametrize(("shrinks", "enlarges"), [(True, 1.0), (False, 16.0)])
def test_a_token_is_not_taken_for_itself_where_it_fills_the_stream(
    shrinks: bool, enlarges: float
) -> None:
    tokens = 100
    model = Tied(tokens, 256, enlarges, shrinks)
    pyinit.initialize_(model, seed=0)
    ids = torch.arange(tokens)
    with torch.no_grad():
        logits = model(ids)
    # Rows of length 1, or of variance 1 if the model shrinks its outputs, would give logits of 9.
    assert 1 < logits.diagonal().mean().item() < math.log(tokens) + 0.5
    loss = functional.cross_entropy(logits, ids.roll(1)).item()
    assert loss < math.log(tokens) + 1


class StateSpace(nn.Module):
    """A selective state space, whose forward cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.zeros(8, 4))
        self.conv1d = nn.Conv1d(8, 8, 4, groups=8)
        self.act = nn.SiLU()
        self.in_proj = nn.Linear(8, 16)
        self.x_proj = nn.Linear(8, 10)
        self.dt_proj = nn.Linear(2, 8)
        self.out_proj = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            raise ValueError("it depends on values")
        return x


def test_the_activation_of_a_state_space_follows_its_convolution_alone() -> None:
    found = chosen(nn.ModuleDict({"mixer": StateSpace(), "head": nn.Linear(8, 3)}))
    assert found["mixer.conv1d.weight"] == KaimingNormal(nonlinearity="silu")
    for layer in ("in_proj", "x_proj", "dt_proj", "out_proj"):
        assert found[f"mixer.{layer}.weight"] == LecunNormal()


class Routed(nn.Module):
    """Experts, each a module, weighed by the softmax of a linear layer."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.first, self.norm, self.router = nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)) for _ in range(4)
        )
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        h = self.norm(x)
        weights = self.router(h).softmax(-1)
        if self.how == "sum":
            return x + sum(weights[..., i : i + 1] * e(h) for i, e in enumerate(self.experts))
        if self.how == "best":
            return x + weights.topk(2)[0][..., :1] * self.experts[0](h)
        return x + torch.einsum("be,bed->bd", weights, torch.stack([e(h) for e in self.experts], 1))


@pytest.mark.parametrize("how", ["sum", "best", "einsum"])
def test_the_softmax_of_a_single_layer_is_no_attention(how: str) -> None:
    report = pyinit.initialize_(Routed(how), "auto", seed=0)
    assert not [row.name for row in report if "queries" in row.why]
    router = report["router.weight"]
    if how == "einsum":  # which may be anything
        assert router.target_std == pytest.approx(16**-0.5)
    else:
        assert router.why == "its softmax weighs other values"
        assert router.target_std == pytest.approx((0.1 / 16) ** 0.5)
    others = [row.why for row in report if row.name.endswith("weight") and "router" not in row.name]
    assert "its softmax weighs other values" not in others


def test_a_softmax_at_the_end_makes_no_attention_of_the_head() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4), nn.Softmax(-1))
    assert pyinit.initialize_(model, "auto", seed=0)["2.weight"].why == "head"
