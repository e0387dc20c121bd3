"""What ``auto`` does behind activations whose output has a mean, such as sigmoids."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import pyinit
from pyinit import initialize_
from pyinit._random.rng import Key
from pyinit._scale.moments import moments_if_off_centre, moments_of
from pyinit._scale.pointwise import Pointwise
from pyinit.initializers import (
    Centred,
    KaimingNormal,
    LecunNormal,
    Normal,
    Orthogonal,
    Weight,
    XavierNormal,
    from_dict,
    make,
)
from pyinit.reports.initialization import InitReport


class ShiftedActivation(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 + x.tanh()


OFF_CENTRE: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "softplus": nn.Softplus,
    "softplus of beta 5": lambda: nn.Softplus(beta=5),
    "logsigmoid": nn.LogSigmoid,
    "a user's": ShiftedActivation,
}


def chain(activation: Callable[[], nn.Module], depth: int, width: int = 128) -> nn.Sequential:
    parts = (p for _ in range(depth) for p in (nn.Linear(width, width), activation()))
    return nn.Sequential(*parts)


def chosen(model: nn.Module) -> dict[str, Any]:
    return {row.name: row.initializer for row in initialize_(model, "auto", seed=0, dry_run=True)}


def gain(initializer: Any) -> float:
    assert isinstance(initializer, Centred)
    assert isinstance(initializer.initializer, KaimingNormal)
    return float(initializer.initializer.nonlinearity)


# ---- The theory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OFF_CENTRE)
def test_about_the_mean_no_gradient_has_to_vanish(name: str) -> None:
    """The Gaussian Poincare inequality: Var f(z) <= E[f'(z)^2]."""
    function = Pointwise(OFF_CENTRE[name]()).values
    plain, about_mean = moments_of(function), moments_if_off_centre(function)
    assert about_mean is not None
    assert plain.derivative < 0.99 * plain.second
    assert about_mean.second == pytest.approx(plain.second - plain.mean**2, rel=1e-9)
    assert about_mean.derivative >= about_mean.second


def test_moments_of_a_sigmoid_are_those_of_a_sample() -> None:
    z = torch.randn(10**6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = moments_if_off_centre(Pointwise(torch.sigmoid).values)
    assert found is not None
    s = z.sigmoid()
    assert found.mean == pytest.approx(0.5)
    assert found.second == pytest.approx(s.var().item(), rel=5e-3)
    assert found.derivative == pytest.approx((s * (1 - s)).square().mean().item(), rel=5e-3)
    assert found.doubled == pytest.approx(((2**0.5 * z).sigmoid().var() / s.var()).item(), rel=5e-3)


@pytest.mark.parametrize(
    "activation",
    [
        *(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.GELU(), nn.SiLU(), nn.Mish(), nn.ELU()),
        *(nn.ELU(5.0), nn.CELU(), nn.SELU(), nn.Tanh(), nn.Softsign(), nn.Hardtanh()),
        *(nn.Hardswish(), nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink()),
    ],
    ids=str,
)
def test_activations_that_let_gradients_pass_are_not_centred(activation: nn.Module) -> None:
    assert moments_if_off_centre(Pointwise(activation).values) is None
    for depth in (4, 10):
        made = chosen(chain(lambda: activation, depth, 8))
        assert not any(isinstance(each, Centred) for each in made.values())


# ---- Chains --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OFF_CENTRE)
def test_fifty_layers_hand_on_signal_and_gradient(name: str) -> None:
    model = chain(OFF_CENTRE[name], 50, 256)
    initialize_(model, "auto", seed=0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 256, generator=generator, requires_grad=True)
    y, variances, signals = x, [], []
    for module in model:
        y = module(y)
        if isinstance(module, nn.Linear):
            variances.append(y.var().item())
            signals.append(y.var(0).mean().item())
    assert min(variances) > 0.4
    assert max(variances) < 2.5
    # What differs between samples: of a softplus, which grows without bound, biases leave less.
    assert min(signals) > (1e-4 if name in ("softplus", "logsigmoid") else 0.03)
    direction = torch.randn(y.shape, generator=generator)
    (gradient,) = torch.autograd.grad(y, x, direction)
    assert 0.005 < gradient.norm() / direction.norm() < 5


def test_a_deep_chain_of_sigmoids_stands_where_neither_variance_nor_gradient_changes() -> None:
    model = chain(nn.Sigmoid, 20)
    report = initialize_(model, "auto", seed=0, dry_run=True)
    squared, bias = gain(report["2.weight"].initializer) ** 2, report["2.bias"].initializer
    z = torch.randn(10**6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    s = z.sigmoid()
    assert isinstance(bias, Normal)
    assert squared * s.var() + bias.std**2 == pytest.approx(1, rel=5e-3)
    assert squared * (s * (1 - s)).square().mean() == pytest.approx(1, rel=5e-3)
    assert report["2.weight"].why == "sigmoid of mean 0.5 comes before, 20 layers without a norm"


def test_a_shallow_chain_is_centred_between_its_first_layer_and_its_head() -> None:
    made = chosen(chain(nn.Sigmoid, 5).append(nn.Linear(128, 10)))
    assert made["0.weight"] == XavierNormal()
    assert made["10.weight"] == LecunNormal()
    for i in (2, 4, 6, 8):
        assert gain(made[f"{i}.weight"]) ** 2 == pytest.approx(1 / 0.04338, rel=1e-3)
        assert made[f"{i}.bias"] == pyinit.initializers.Constant(0.0)


def test_ten_layers_of_sigmoids_learn_digits() -> None:
    """Without centred weights the same training ends at 0.1 to 0.3."""
    data = pytest.importorskip("pyinit.datasets").load("digits")
    images = torch.as_tensor(data.inputs).float().flatten(1)
    images, classes = (images - images.mean()) / images.std(), torch.as_tensor(data.target)
    is_test = torch.arange(len(images)) % 5 == 0
    model = nn.Sequential(nn.Linear(64, 128), nn.Sigmoid(), *chain(nn.Sigmoid, 8))
    model.append(nn.Linear(128, 10))
    initialize_(model, "auto", seed=0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        some = torch.randint(1400, (64,), generator=generator)
        loss = functional.cross_entropy(model(images[~is_test][some]), classes[~is_test][some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = model(images[is_test]).argmax(1) == classes[is_test]
    assert right.float().mean() > 0.93


def test_layers_that_cannot_be_centred_are_told_to_shrink_gradients() -> None:
    parts = (p for _ in range(12) for p in (nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Sigmoid()))
    report = initialize_(nn.Sequential(*parts), "auto", seed=0)
    assert report["4.weight"].why.endswith(
        "12 layers without a norm, each of which shrinks gradients to 39%: add norms or residual sums"
    )
    thin = chosen(chain(nn.Sigmoid, 5, width=1))
    assert not any(isinstance(each, Centred) for each in thin.values())


# ---- Beyond chains -------------------------------------------------------------------------------


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.act = nn.Linear(64, 64), nn.Linear(64, 64), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(self.act(self.up(x)))
        return y


def test_the_end_of_a_branch_is_centred_and_scaled_by_the_number_of_branches() -> None:
    made = chosen(nn.Sequential(*(Branch() for _ in range(4)), nn.Linear(64, 10)))
    assert made["0.up.weight"] == XavierNormal()
    assert gain(made["0.down.weight"]) ** 2 == pytest.approx(1 / 0.04338 / 4, rel=1e-3)


def test_a_layer_norm_sets_the_scale_and_a_batch_norm_the_mean_as_well() -> None:
    def model(norm: Callable[[int], nn.Module]) -> nn.Module:
        parts = (p for _ in range(3) for p in (nn.Linear(64, 64), norm(64), nn.Sigmoid()))
        return nn.Sequential(*parts)

    assert chosen(model(nn.LayerNorm))["3.weight"] == Centred(XavierNormal())
    assert chosen(model(nn.BatchNorm1d))["3.weight"] == XavierNormal()


@torch.no_grad()
@pytest.mark.parametrize(
    "conv",
    [
        lambda: nn.Conv2d(32, 32, 3, padding=1),
        lambda: nn.Conv2d(32, 32, 3, padding=1, groups=4),
        lambda: nn.ConvTranspose2d(32, 32, 3, padding=1),
        lambda: nn.ConvTranspose2d(32, 32, 3, padding=1, groups=4),
    ],
    ids=["plain", "grouped", "transposed", "transposed and grouped"],
)
def test_zeros_around_an_image_change_nothing(conv: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(conv(), nn.Sigmoid(), conv(), nn.Sigmoid(), conv())
    initialize_(model, "auto", seed=0)
    assert (
        model[2](torch.full((1, 32, 6, 6), 0.5)).sub(model[2].bias.view(-1, 1, 1)).abs().max()
        < 1e-5
    )  # type: ignore[operator,union-attr]


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.gate, self.b = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        y: Tensor = self.b(x * self.gate(x).sigmoid())
        return y


def test_a_gate_is_no_activation_before_a_layer() -> None:
    assert not any(isinstance(each, Centred) for each in chosen(Gated()).values())


# ---- The initializer -----------------------------------------------------------------------------

WEIGHTS = {
    "matrix": (Weight((30, 17)), 1),
    "convolution": (Weight((8, 5, 3, 3)), 1),
    "grouped": (Weight((8, 5, 3), groups=4), 1),
    "transposed": (Weight((17, 30), transposed=True), 0),
    "large": (Weight((300, 4097)), 1),
}


def filled(initializer: Any, weight: Weight, dtype: torch.dtype = torch.float32) -> Tensor:
    tensor = torch.empty(weight.shape, dtype=dtype)
    for k, block in enumerate(initializer.resolve(weight)):
        block.drawn.fill_(block.of(tensor), Key(3, 5 + k))
    return tensor


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", WEIGHTS)
def test_centred_is_the_drawn_weight_less_its_means(name: str, dtype: torch.dtype) -> None:
    weight, inputs = WEIGHTS[name]
    drawn = filled(Normal(0, 0.1), weight, dtype).double()
    count = weight.shape[inputs]
    expected = (drawn - drawn.mean(inputs, keepdim=True)) * (count / (count - 1)) ** 0.5
    found = filled(Centred(Normal(0, 0.1)), weight, dtype)
    assert torch.allclose(found.double(), expected, rtol=torch.finfo(dtype).eps, atol=1e-7)
    assert Centred(Normal(0, 0.1)).target_std(weight) == 0.1


def test_groups_of_a_transposed_convolution_have_means_of_their_own() -> None:
    weight = Weight((12, 3, 3), groups=4, transposed=True)
    found = filled(Centred(Normal()), weight).unflatten(0, (4, 3))
    assert found.sum(1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("layout", "inputs"),
    [
        ({"batch_dims": 1}, 2),
        ({"batch_dims": 1, "transposed": True}, 1),
        ({"transposed": True}, 0),
        ({"batch_dims": 2}, 3),
    ],
)
def test_inputs_stand_where_the_other_initializer_takes_them(
    layout: dict[str, Any], inputs: int
) -> None:
    """Experts (experts, in, out) are centred over the inputs of each, not over what dim 1 happens to be."""
    drawn, weight = LecunNormal(**layout), Weight((4, 6, 5, 3))
    values = filled(drawn, weight).double()
    count = weight.shape[inputs]
    expected = (values - values.mean(inputs, keepdim=True)) * (count / (count - 1)) ** 0.5
    assert torch.allclose(filled(Centred(drawn), weight).double(), expected, atol=1e-6)
    assert Centred(drawn).taken(weight) == drawn.taken(weight)
    said = Weight(weight.shape, **layout)  # by the weight's layer
    assert torch.equal(filled(Centred(LecunNormal()), said), filled(Centred(drawn), weight))


def test_experts_have_an_input_where_their_matrices_have_one() -> None:
    experts = LecunNormal(batch_dims=1)
    assert len(Centred(experts).resolve(Weight((4, 1, 6)))) == 2
    with pytest.raises(ValueError, match="at least 2 inputs in a group"):
        Centred(experts).resolve(Weight((4, 6, 1)))


def test_groups_of_transposed_weights_in_a_stack() -> None:
    weight = Weight((2, 12, 3, 3), groups=4, transposed=True, batch_dims=1)
    found = filled(Centred(Normal()), weight).unflatten(1, (4, 3))
    assert found.sum(2).abs().max() < 1e-6


def test_some_outputs_by_themselves_have_the_values_that_they_have_among_all() -> None:
    """So a shard of whole rows needs nothing of the others, and cuts of the work change nothing."""
    weight = Weight((600, 4097))
    whole = filled(Normal(), weight)
    part = whole[100:103].clone()
    *_, centring = Centred(Normal()).resolve(weight)
    centring.drawn.fill_(whole, None)
    centring.drawn.fill_(part, None)
    assert torch.equal(whole[100:103], part)


def test_values_do_not_depend_on_threads_layout_or_where_the_model_was_made() -> None:
    def model() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, 32, 3),
            nn.Sigmoid(),
            nn.Conv2d(32, 64, 3),
            nn.Sigmoid(),
            nn.Conv2d(64, 8, 1),
        )

    first = model()
    report = initialize_(first, "auto", seed=7)
    assert isinstance(report["2.weight"].initializer, Centred)
    threads = torch.get_num_threads()
    others: dict[str, nn.Module] = {"strided": model().to(memory_format=torch.channels_last)}  # type: ignore[call-overload]
    initialize_(others["strided"], "auto", seed=7)
    try:
        torch.set_num_threads(1 if threads > 1 else 3)
        others["threads"] = model()
        initialize_(others["threads"], "auto", seed=7)
    finally:
        torch.set_num_threads(threads)
    with torch.device("meta"):
        others["meta"] = model()
    initialize_(others["meta"], "auto", seed=7)
    others["replayed"] = model()
    pyinit.replay_(others["replayed"], InitReport.from_dict(report.to_dict()))
    for other in others.values():
        for a, b in zip(first.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


def test_it_goes_to_a_dictionary_and_back() -> None:
    centred = Centred(KaimingNormal(nonlinearity=4.0))
    assert from_dict(centred.to_dict()) == centred
    assert make("centred", initializer={"name": "orthogonal"}) == Centred(Orthogonal())


@pytest.mark.parametrize(
    ("initializer", "weight", "words"),
    [
        (Normal(), Weight((8, 1)), "at least 2 inputs in a group, got shape (8, 1) in 1 groups"),
        (Normal(), Weight((8,)), "at least 2 inputs"),
        (Normal(), Weight((8, 1, 3, 3), groups=8), "in 8 groups"),
        (Normal(), Weight((4, 2), groups=4, transposed=True), "at least 2 inputs"),
        (pyinit.initializers.KEEP, Weight((8, 8)), "needs an initializer that draws, got keep"),
    ],
)
def test_what_cannot_be_centred_is_refused(initializer: Any, weight: Weight, words: str) -> None:
    with pytest.raises(ValueError, match="centred needs") as raised:
        Centred(initializer).resolve(weight)
    assert words in str(raised.value)


def test_with_torchs_numbers_it_centres_those() -> None:
    layer = nn.Linear(20, 10)
    with pyinit.rng("torch"):
        initialize_(layer, rules={"weight": Centred(Normal())}, seed=0)
    assert layer.weight.sum(1).abs().max() < 1e-5
