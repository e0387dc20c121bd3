"""convert_(model, fuse=True): activations computed by the convolutions before them, and unconvert_."""

import copy
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as torchs
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

import pyinit.functional as ours
from pyinit import initialize_
from pyinit import nn as our_nn
from pyinit.nn.modules import Fused

pytestmark = pytest.mark.usefixtures("one_thread")

ACTIVATIONS: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
    "relu": (nn.ReLU(), ours.relu),
    "relu in place": (nn.ReLU(inplace=True), ours.relu),
    "leaky_relu": (nn.LeakyReLU(0.2), lambda x: ours.leaky_relu(x, 0.2)),
    "negative leaky_relu": (nn.LeakyReLU(-0.5), lambda x: ours.leaky_relu(x, -0.5)),
    "elu": (nn.ELU(0.7), lambda x: ours.elu(x, 0.7)),
    "selu": (nn.SELU(), ours.selu),
    "gelu": (nn.GELU(), ours.gelu),
    "gelu_tanh": (nn.GELU("tanh"), lambda x: ours.gelu(x, approximate="tanh")),
    "silu": (nn.SiLU(), ours.silu),
    "sigmoid": (nn.Sigmoid(), ours.sigmoid),
    "tanh": (nn.Tanh(), ours.tanh),
    "softplus": (nn.Softplus(), ours.softplus),
}
CONVOLUTIONS = [f"Conv{kind}{dims}d" for kind in ("", "Transpose") for dims in (1, 2, 3)]


def equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def a_pair(activation: nn.Module, name: str = "Conv2d") -> nn.Sequential:
    torch.manual_seed(5)
    layer = getattr(nn, name)(2, 3, 3, padding=1)
    return nn.Sequential(layer, copy.deepcopy(activation)).double()


def an_input(name: str = "Conv2d") -> Tensor:
    torch.manual_seed(6)
    return torch.randn(2, 2, *(5, 4, 3)[: int(name[-2])], dtype=torch.float64)


def is_fused(model: nn.Module) -> bool:
    return any(isinstance(module, Fused) for module in model.modules())


@pytest.mark.parametrize("is_trained", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_fused_pair_has_the_bits_of_its_parts(name: str, is_trained: bool) -> None:
    module, function = ACTIVATIONS[name]
    pair = our_nn.convert_(a_pair(module))
    x = an_input()
    with torch.set_grad_enabled(is_trained):
        expected = function(pair[0](x))
        assert our_nn.convert_(pair, fuse=True) is pair
        assert is_fused(pair)
        assert torch.equal(pair(x), expected)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_of_a_fused_pair(name: str) -> None:
    module, _ = ACTIVATIONS[name]
    pair = a_pair(module)
    fused = our_nn.convert_(copy.deepcopy(pair), fuse=True)
    x = an_input().requires_grad_()
    both = [torch.autograd.grad(m(x).sin().sum(), (x, *m.parameters())) for m in (pair, fused)]
    torch.testing.assert_close(*both, rtol=1e-9, atol=1e-9)
    small = x[:1, :, :3, :3].detach().requires_grad_()
    parameters = dict(fused.named_parameters())

    def function(x: Tensor, *tensors: Tensor) -> Any:
        given = dict(zip(parameters, tensors, strict=True))
        return torch.func.functional_call(fused, given, (x,))

    assert torch.autograd.gradcheck(function, (small, *parameters.values()))
    assert torch.autograd.gradgradcheck(function, (small, *parameters.values()))


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_convolution_fuses(name: str, native_calls: Counter[str]) -> None:
    pair = a_pair(nn.ReLU(), name)
    expected = pair(an_input(name))
    fused = our_nn.convert_(pair, fuse=True)
    equal(fused(an_input(name)), expected)
    kernel = "convolve_transposed" if "Transpose" in name else "convolve"
    assert native_calls == {kernel: 1}  # and no pass of the activation's own


def test_the_mask_of_relu_comes_from_the_output(native_calls: Counter[str]) -> None:
    fused = our_nn.convert_(a_pair(nn.ReLU()), fuse=True)
    out = fused(an_input())
    assert [x.shape for x in out.grad_fn.saved_tensors] == [(2, 2, 5, 4), (3, 2, 3, 3), out.shape]
    out.sum().backward()
    assert native_calls["activate"] == 0
    assert native_calls["activate_backward"] == 1


def network() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.Tanh()),
        nn.Conv2d(6, 6, 1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 2),
        nn.LeakyReLU(0.3),
        nn.Flatten(),
        nn.Linear(3 * 4 * 4, 5),
    ).double()


def pictures() -> Tensor:
    torch.manual_seed(3)
    return torch.randn(6, 1, 10, 10, dtype=torch.float64)


def trained(model: nn.Module) -> list[Tensor]:
    x, labels = pictures(), torch.arange(6) % 5
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(4):
        optimizer.zero_grad()
        torchs.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def test_training_a_fused_network_equals_training_it_with_torch(native_calls: Counter[str]) -> None:
    made = trained(our_nn.convert_(network(), fuse=True))
    assert native_calls["convolve"]
    equal(made, trained(network()))


def test_which_of_a_network_are_fused() -> None:
    model = our_nn.convert_(network(), fuse=True)
    names = [name for name, module in model.named_modules() if isinstance(module, Fused)]
    assert names == ["1", "3.1", "8"]
    assert [model[i].activation for i in (0, 4, 7)] == ["relu", None, "leaky_relu"]
    assert repr(model[1]) == "Fused(ReLU(inplace=True))"
    assert repr(model[8]) == "Fused(LeakyReLU(negative_slope=0.3))"


def test_the_state_of_a_fused_network_is_that_of_the_plain_one() -> None:
    plain, fused = network(), our_nn.convert_(network(), fuse=True)
    assert list(fused.state_dict()) == list(plain.state_dict())
    assert [*dict(fused.named_modules())] == [*dict(plain.named_modules())]
    fused.load_state_dict(trained_state := plain.state_dict())
    plain.load_state_dict(fused.state_dict())
    assert all(torch.equal(trained_state[k], v) for k, v in fused.state_dict().items())
    assert not fused.eval()[1].training


def attributes(model: nn.Module) -> list[Any]:
    own = ({k: v for k, v in vars(m).items() if k[0] != "_"} for m in model.modules())
    parameters = (list(map(id, m._parameters.values())) for m in model.modules())
    return list(zip(map(type, model.modules()), own, parameters, strict=True))


def test_unconvert_brings_everything_back(native_calls: Counter[str]) -> None:
    model = network().eval()
    model[0].weight.requires_grad_(False)
    model[10].register_forward_hook(lambda *_: None)
    seen: list[Tensor] = []
    model[4].register_forward_hook(lambda _, __, y: seen.append(y))
    before, modules, shown = attributes(model), list(model.modules()), repr(model)
    expected = model(pictures())
    our_nn.convert_(model, fuse=True)
    assert is_fused(model)
    assert our_nn.unconvert_(model) is model
    assert list(map(id, model.modules())) == list(map(id, modules))
    assert attributes(model) == before
    assert repr(model) == shown
    seen.clear()
    assert torch.equal(model(pictures()), expected)
    assert len(seen) == 1
    assert not native_calls
    assert our_nn.unconvert_(model) is model


def test_unconvert_of_a_part_brings_back_what_it_computes_outside() -> None:
    model = our_nn.convert_(network(), fuse=True)
    our_nn.unconvert_(model[0])
    assert (type(model[0]), type(model[1])) == (nn.Conv2d, nn.ReLU)
    assert model[3][0].activation == "tanh"


def test_unconvert_refuses_an_activation_without_its_convolution() -> None:
    model = our_nn.convert_(network(), fuse=True)
    with pytest.raises(ValueError, match=r"are no part of the model: 1 \(Fused\)$"):
        our_nn.unconvert_(nn.Sequential(model[3], model[1]))
    assert model[3][0].activation == "tanh"
    assert type(model[3][0]) is our_nn.Conv2d


def test_unconvert_leaves_alone_and_names_what_torch_does_not_have() -> None:
    model = nn.Sequential(
        our_nn.Conv2d(3, 4, 3, activation="relu"),
        our_nn.Conv2d(4, 4, 3),
        our_nn.convert_(a_pair(nn.Tanh()), fuse=True),
    )
    parametrizations.weight_norm(model[2][0])
    with pytest.warns(
        UserWarning, match=r"own: 0 \(Conv2d\), 2\.0 \(ParametrizedConv2d\)$"
    ) as record:
        our_nn.unconvert_(model)
    assert record[0].filename == __file__
    assert [type(x) for x in model[:2]] == [our_nn.Conv2d, nn.Conv2d]
    assert [x.activation for x in (model[0], model[2][0])] == ["relu", "tanh"]
    assert is_fused(model)


@pytest.mark.parametrize("function", [our_nn.convert_, our_nn.unconvert_])
def test_models_must_be_modules(function: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        function("lenet")


def test_fuse_must_be_a_bool() -> None:
    model = network()
    with pytest.raises(TypeError, match="fuse must be a bool, got int"):
        our_nn.convert_(model, fuse=1)  # type: ignore[arg-type]
    assert type(model[0]) is nn.Conv2d


def test_a_converted_model_can_be_fused_later_and_only_once() -> None:
    model = our_nn.convert_(network())
    assert not is_fused(model)
    shown = repr(our_nn.convert_(model, fuse=True))
    assert is_fused(model)
    assert repr(our_nn.convert_(model, fuse=True)) == shown == repr(our_nn.convert_(model))


@pytest.mark.parametrize("how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_fused_and_can_be_unconverted(how: Callable[[Any], Any]) -> None:
    model = our_nn.convert_(network(), fuse=True).eval()
    made = how(model)
    assert torch.equal(made(pictures()), model(pictures()))
    shown = repr(model)
    assert repr(our_nn.unconvert_(made)) == repr(network().eval())
    assert repr(model) == shown


# ---- What is left alone ---------------------------------------------------------------------------


class Base(nn.Module):
    """A convolution and an activation, which subclasses use in one way or another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.other = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.dropout = nn.Dropout(0.5)
        self.act = nn.ReLU()


def in_a_row(self: Any, x: Tensor) -> Tensor:
    return self.act(self.conv(x))


def residual(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    return self.act(y) + y


def is_returned(self: Any, x: Tensor) -> Any:
    y = self.conv(x)
    return self.act(y), y


def shape_read(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    return self.act(y).reshape(y.shape[0], -1)


def shared_activation(self: Any, x: Tensor) -> Tensor:
    return self.act(self.other(self.act(self.conv(x))))


def shared_convolution(self: Any, x: Tensor) -> Tensor:
    return self.conv(self.act(self.conv(x)))


def normalized(self: Any, x: Tensor) -> Tensor:
    return self.act(self.norm(self.conv(x)))


def with_dropout(self: Any, x: Tensor) -> Tensor:
    return self.act(self.dropout(self.conv(x)))


def by_function(self: Any, x: Tensor) -> Tensor:
    return torchs.relu(self.conv(x))


def in_training_alone(self: Any, x: Tensor) -> Any:
    y = self.conv(x)
    return (self.act(y), y) if self.training else self.act(y)


def in_evaluation_alone(self: Any, x: Tensor) -> Any:
    y = self.conv(x)
    return self.act(y) if self.training else (self.act(y), y)


def on_request(self: Any, x: Tensor, with_features: bool = False) -> Any:
    y = self.conv(x)
    return (self.act(y), y) if with_features else self.act(y)


def if_given(self: Any, x: Tensor, mask: Tensor | None = None) -> Any:
    y = self.conv(x)
    return self.act(y) if mask is None else self.act(y * mask)


def if_not_given(self: Any, x: Tensor, mask: Tensor | None = None) -> Any:
    y = self.conv(x)
    return self.act(y + 1) if mask is None else self.act(y)


KEPT: list[Any] = []


def kept_in_an_attribute(self: Any, x: Tensor) -> Tensor:
    self.features = self.conv(x)
    return self.act(self.features)


def kept_in_a_list(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    KEPT[:] = [y]
    return self.act(y)


LEFT = (
    *(
        residual,
        is_returned,
        kept_in_an_attribute,
        kept_in_a_list,
        shape_read,
        shared_activation,
        shared_convolution,
        normalized,
    ),
    *(with_dropout, by_function, in_training_alone, in_evaluation_alone, on_request),
    *(if_given, if_not_given),
)


def a_model(forward: Callable[..., Any]) -> nn.Module:
    torch.manual_seed(8)
    return type("Made", (Base,), {"forward": forward})().double()


@pytest.mark.parametrize("forward", LEFT, ids=lambda f: f.__name__)
def test_outputs_with_other_readers_and_modules_in_two_places_are_left_alone(
    forward: Callable[..., Any],
) -> None:
    model = a_model(forward).eval()
    expected, parts = model(an_input()), [model.conv, model.act]
    our_nn.convert_(model, fuse=True)
    assert type(model.act) is nn.ReLU
    assert model.conv.activation is None
    equal(model(an_input()), expected)
    assert [model.conv, model.act] == parts


def test_a_row_is_fused_whatever_else_the_forward_may_do() -> None:
    def forward(self: Any, x: Tensor, more: Tensor | None = None, twice: bool = False) -> Any:
        y = self.act(self.conv(x))
        if more is not None:
            y = y + more
        return self.other(y) if twice or self.training else y

    model = our_nn.convert_(a_model(forward), fuse=True)
    assert is_fused(model)


def on_shape(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    return self.act(y) if y.shape[-1] > 2 else y


def on_values(self: Any, x: Tensor) -> Tensor:
    y = self.conv(x)
    return self.act(y) if y.sum() > 0 else y


def on_count(self: Any, x: Tensor, repeats: int = 1) -> Tensor:
    y = self.conv(x)
    for _ in range(repeats):
        y = self.act(y)
    return y


def on_batch(self: Any, x: Tensor) -> Tensor:
    return torch.cat([self.act(self.conv(x[i : i + 1])) for i in range(len(x))])


def by_forward(self: Any, x: Tensor) -> Tensor:
    return self.act.forward(self.conv(self.act(self.conv(x))))


@pytest.mark.parametrize(
    "forward", [on_shape, on_values, on_count, on_batch, by_forward], ids=lambda f: f.__name__
)
def test_what_cannot_be_followed_is_left_alone_and_says_why(forward: Callable[..., Any]) -> None:
    model = a_model(forward)
    before = [(m, {**vars(m)}) for m in model.modules()]
    expected = model(an_input())
    with pytest.warns(
        UserWarning, match=r"no activation is fused because .* certain: \w+Error"
    ) as record:
        our_nn.convert_(model, fuse=True)
    assert record[0].filename == __file__
    assert type(model.conv) is our_nn.Conv2d
    assert all(vars(module) == attributes for module, attributes in before)
    equal(model(an_input()), expected)


def test_too_many_optional_arguments_are_not_followed() -> None:
    def forward(self: Any, x: Tensor, a=None, b=None, c=None, d=None, e=None) -> Any:  # noqa: PLR0917
        return self.act(self.conv(x))

    with pytest.warns(UserWarning, match="ValueError: its forward has too many optional arguments"):
        our_nn.convert_(a_model(forward), fuse=True)


def test_a_forward_of_an_object_is_not_followed() -> None:
    model = a_model(in_a_row)
    model.forward = model.conv.forward
    with pytest.warns(UserWarning, match="ValueError: its forward is not that of its class"):
        our_nn.convert_(model, fuse=True)


@pytest.mark.parametrize("at", ["conv", "act"])
@pytest.mark.parametrize(
    "kind",
    ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"],
)
def test_hooks_keep_modules_as_they_are(kind: str, at: str) -> None:
    model = a_model(in_a_row)
    handle = getattr(getattr(model, at), f"register_{kind}")(lambda *_: None)
    assert not is_fused(our_nn.convert_(model, fuse=True))
    handle.remove()
    assert is_fused(our_nn.convert_(model, fuse=True))


def test_a_hook_of_a_module_around_a_convolution_reads_its_output() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 3)), nn.ReLU())
    handle = model[0].register_forward_hook(lambda *_: None)
    assert not is_fused(our_nn.convert_(model, fuse=True))
    handle.remove()
    assert is_fused(our_nn.convert_(model, fuse=True))


def test_an_activation_that_another_layer_calls_unseen_is_left_alone() -> None:
    class Holder(nn.Conv2d):
        def __init__(self, act: nn.Module) -> None:
            super().__init__(2, 2, 3, padding=1)
            self.act = act

        def forward(self, input: Tensor) -> Tensor:
            return self.act(super().forward(input))

    act = nn.GELU()
    model = nn.Sequential(nn.Conv2d(2, 2, 3), act, Holder(act))
    with pytest.warns(UserWarning, match=r"2 \(Holder\)"):
        our_nn.convert_(model, fuse=True)
    assert not is_fused(model)


def test_parametrized_and_pruned_convolutions_are_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU())
    parametrizations.weight_norm(model[0])
    prune.l1_unstructured(model[2], "weight", 0.5)
    with pytest.warns(UserWarning, match=r"0 \(ParametrizedConv2d\)"):
        our_nn.convert_(model, fuse=True)
    assert not is_fused(model)


class Subclass(nn.ReLU):
    pass


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU6(), nn.PReLU(), nn.Softplus(beta=2), nn.LeakyReLU(torch.tensor(0.1)), Subclass()],
    ids=["ReLU6", "PReLU", "Softplus", "LeakyReLU of a tensor", "a subclass"],
)
def test_activations_that_convolutions_do_not_have_are_left_alone(activation: nn.Module) -> None:
    pair = our_nn.convert_(a_pair(activation), fuse=True)
    assert type(pair[1]) is type(activation)
    assert pair[0].activation is None


def test_a_convolution_with_an_activation_of_its_own_is_left_alone() -> None:
    model = nn.Sequential(our_nn.Conv2d(2, 2, 3, activation="tanh"), nn.ReLU())
    our_nn.convert_(model, fuse=True)
    assert model[0].activation == "tanh"
    assert type(model[1]) is nn.ReLU


def test_models_without_such_pairs_are_not_followed() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act = nn.Linear(2, 2), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.linear(x)) if x.sum() > 0 else x

    our_nn.convert_(Odd(), fuse=True)  # which would warn


# ---- What may be done with a fused model ------------------------------------------------------------


def test_a_fused_model_compiles_to_one_graph(compiler: Callable[..., Any]) -> None:
    model = our_nn.convert_(network(), fuse=True).eval()
    equal(torch.compile(model, fullgraph=True, backend="aot_eager")(pictures()), model(pictures()))


def test_a_wrapped_model_is_fused(compiler: Callable[..., Any]) -> None:
    model = network().eval()
    expected = model(pictures())
    wrapped = torch.nn.DataParallel(model)
    our_nn.convert_(wrapped, fuse=True)
    assert isinstance(model[1], Fused)
    equal(wrapped(pictures()), expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointed_parts(use_reentrant: bool) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = a_pair(nn.ReLU()), a_pair(nn.Tanh())
            self.link = nn.Conv2d(3, 2, 1).double()

        def forward(self, x: Tensor) -> Any:
            y = self.link(self.stem(x))
            return checkpoint(self.body, y, use_reentrant=use_reentrant)

    model = Checkpointed()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(an_input()).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
        our_nn.convert_(model, fuse=True)
    assert isinstance(model.stem[1], Fused)
    equal(*gradients)


def test_function_transforms_of_a_fused_model() -> None:
    model, fused = network().eval(), our_nn.convert_(network().eval(), fuse=True)
    state = dict(model.named_parameters())

    def loss(parameters: Any, x: Tensor, module: nn.Module) -> Any:
        return torch.func.functional_call(module, parameters, (x[None],)).square().sum()

    both = [
        torch.vmap(torch.func.grad(lambda p, x, m=m: loss(p, x, m)), (None, 0))(state, pictures())
        for m in (model, fused)
    ]
    equal(*both)


def test_a_fused_model_initializes_as_the_plain_one() -> None:
    plain, fused = network(), our_nn.convert_(network(), fuse=True)
    for model in (plain, fused):
        initialize_(model, "auto", seed=4)
    both = (dict(m.named_parameters()) for m in (plain, fused))
    assert all(torch.equal(a, b) for a, b in zip(*(x.values() for x in both), strict=True))


def test_tools_that_rebuild_a_convolution_are_told_what_to_do() -> None:
    model = our_nn.convert_(nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReLU()), fuse=True).eval()
    with pytest.raises(RuntimeError, match=r"activation='relu'; call pyinit\.nn\.unconvert_ first"):
        fuse_conv_bn_eval(model[0], nn.BatchNorm2d(2).eval())
