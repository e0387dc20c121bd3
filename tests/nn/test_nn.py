"""pyinit.nn: modules, conversion, gradients by one tensor."""

import copy
import importlib
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as torchs
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pyinit import nn as our_nn

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [f"Conv{kind}{dims}d" for kind in ("", "Transpose") for dims in (1, 2, 3)]


def both(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Two modules with equal parameters."""
    made = []
    for module in (our_nn, torch.nn):
        torch.manual_seed(3)
        made.append(getattr(module, name)(*args, **kwargs, dtype=torch.float64))
    return made[0], made[1]


def an_input(name: str, channels: int = 4) -> Tensor:
    return torch.randn(2, channels, *(6, 5, 4)[: int(name[-2])], dtype=torch.float64)


def equal(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_is_torchs_but_for_who_computes(name: str, native_calls: Counter[str]) -> None:
    made, theirs = both(name, 4, 6, 3, stride=2, padding=1, groups=2)
    assert isinstance(made, getattr(torch.nn, name))
    assert repr(made) == repr(theirs)
    x = an_input(name)
    equal(made(x), theirs(x))
    assert native_calls.total() == 1
    assert list(made.state_dict()) == list(theirs.state_dict())
    for one, other in ((made, theirs), (theirs, made)):
        with torch.no_grad():
            one.weight.mul_(2)
        other.load_state_dict(one.state_dict())
        assert torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [1, "same"])
@pytest.mark.parametrize("name", NAMES[:3])
def test_padding_modes(name: str, padding: Any, mode: str, native_calls: Counter[str]) -> None:
    made, theirs = both(name, 4, 6, 3, padding=padding, padding_mode=mode)
    x = an_input(name)
    equal(made(x), theirs(x))
    assert native_calls == {"convolve": 1}


@pytest.mark.parametrize("name", NAMES[3:])
def test_output_sizes_of_transposed_convolutions(name: str, native_calls: Counter[str]) -> None:
    made, theirs = both(name, 4, 6, 3, stride=3, padding=1, dilation=2)
    x = an_input(name)
    size = [n * 3 + 2 for n in x.shape[2:]]
    assert made(x, size).shape[2:] == torch.Size(size)
    equal(made(x, size), theirs(x, size))
    assert native_calls == {"convolve_transposed": 2}
    with pytest.raises(ValueError, match="requested an output size"):
        made(x, [1] * len(size))


def test_an_activation_is_part_of_the_module(native_calls: Counter[str]) -> None:
    made, theirs = both("Conv2d", 4, 6, 3)
    active = our_nn.Conv2d(4, 6, 3, activation="elu", activation_parameter=0.5).double()
    active.load_state_dict(made.state_dict())
    x = an_input("Conv2d")
    equal(active(x), torchs.elu(theirs(x), 0.5))
    assert repr(active).endswith("stride=(1, 1), activation='elu', activation_parameter=0.5)")
    for other in (copy.deepcopy(active), pickle.loads(pickle.dumps(active))):
        assert torch.equal(other(x), active(x))
    assert native_calls == {"convolve": 5}
    with pytest.raises(ValueError, match=r"activation must be one of .*, got 'swish'"):
        our_nn.Conv2d(4, 6, 3, activation="swish")


class Block(torch.nn.Module):
    """What the models of torchvision are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(4)
        self.depthwise = torch.nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.down = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU())
        self.again = self.depthwise

    def forward(self, x: Tensor) -> Tensor:
        y = torchs.relu(self.norm(self.conv1(x)))
        return self.again(self.depthwise(y)) + self.down(x)


def test_convert_keeps_all_but_the_class(native_calls: Counter[str]) -> None:
    model = Block().double().eval()
    model.conv1.weight.requires_grad_(False)
    seen: list[torch.Size] = []
    model.conv1.register_forward_hook(lambda _, __, y: seen.append(y.shape))
    parameters, state, keys = list(model.parameters()), repr(model), list(model.state_dict())
    x = an_input("Conv2d", 3)
    before = model(x)
    assert our_nn.convert_(model) is model
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert type(model.conv1) is type(model.depthwise) is type(model.down[0]) is our_nn.Conv2d
    assert model.again is model.depthwise
    assert (repr(model), list(model.state_dict())) == (state, keys)
    assert not model.conv1.training
    equal(model(x), before)
    assert len(seen) == 2
    assert native_calls == {"convolve": 4}
    equal(pickle.loads(pickle.dumps(model.down))(x), model.down(x))
    assert our_nn.convert_(model) is model


def test_convert_a_convolution_itself() -> None:
    made = our_nn.convert_(torch.nn.ConvTranspose1d(2, 3, 2))
    assert type(made) is our_nn.ConvTranspose1d


def test_convert_takes_modules_alone() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got int"):
        our_nn.convert_(3)  # type: ignore[type-var]


def test_convert_leaves_alone_and_names_what_is_not_torchs_own_class() -> None:
    class Mine(torch.nn.Conv2d):
        pass

    model = torch.nn.Sequential(
        Mine(3, 4, 3),
        torch.nn.LazyConv2d(4, 3),
        parametrizations.weight_norm(torch.nn.Conv2d(4, 4, 3)),
        torch.nn.Conv2d(4, 4, 3),
    )
    kinds = [type(x) for x in model[:3]]
    with pytest.warns(
        UserWarning, match=r"0 \(Mine\), 1 \(LazyConv2d\), 2 \(Parametrized"
    ) as record:
        our_nn.convert_(model)
    assert record[0].filename == __file__
    assert [type(x) for x in model] == [*kinds, our_nn.Conv2d]


def network(module: Any) -> torch.nn.Module:
    torch.manual_seed(11)
    return torch.nn.Sequential(
        module.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        module.Conv2d(4, 6, 3, stride=2, padding="valid", groups=2),
        torch.nn.GELU(),
        torch.nn.Flatten(),
        torch.nn.Linear(6 * 2 * 2, 5),
    ).double()


def trained(
    model: torch.nn.Module, layout: torch.memory_format
) -> tuple[list[float], list[Tensor]]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(8, 1, 10, 10, generator=generator, dtype=torch.float64)
    x = x.contiguous(memory_format=layout)
    labels = torch.randint(5, (8,), generator=generator)
    model = model.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = torchs.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("how", ["modules", "converted", "fused"])
def test_training_a_network_equals_training_it_with_torch(
    how: str, layout: torch.memory_format, native_calls: Counter[str]
) -> None:
    model = network(our_nn if how == "modules" else torch.nn)
    if how != "modules":
        our_nn.convert_(model)
    if how == "fused":
        model[0].activation, model[1] = "relu", torch.nn.Identity()
        model[3].activation, model[4] = "gelu", torch.nn.Identity()
    losses, parameters = trained(model, layout)
    assert native_calls["convolve"] == native_calls["convolve_weight_gradient"] == 2 * len(losses)
    their_losses, theirs = trained(network(torch.nn), layout)
    equal(losses, their_losses)
    equal(parameters, theirs)
    assert losses[-1] < losses[0]


WINDOW = {"stride": 2, "padding": 1, "dilation": 1, "groups": 2}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_gradients_by_one_tensor_are_torchs(dims: int, native_calls: Counter[str]) -> None:
    x = an_input(f"{dims}d").requires_grad_()
    w = torch.randn(6, 2, *(3, 2, 3)[:dims], dtype=torch.float64, requires_grad=True)
    convolve = getattr(torchs, f"conv{dims}d")
    b = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    out = convolve(x, w, b, **WINDOW)
    grad = torch.randn_like(out)
    by_x, by_w, by_b = torch.autograd.grad(out, (x, w, b), grad)
    of = lambda kind, *args, **k: getattr(our_nn.grad, f"conv{dims}d_{kind}")(*args, **k)
    equal(of("input", x.shape, w, grad, **WINDOW).detach(), by_x)
    equal(of("weight", x, w.shape, grad, **WINDOW).detach(), by_w)
    equal(of("bias", grad), by_b)
    kernels = "convolve_transposed", "convolve_weight_gradient", "sum_channels"
    assert native_calls == dict.fromkeys(kernels, 1)
    half = of("input", x.shape, w.half(), grad.half(), **WINDOW)
    assert half.dtype == torch.float16


def test_gradients_by_one_tensor_can_be_differentiated() -> None:
    w = torch.randn(2, 1, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    window = {"stride": 2, "groups": 2}
    by_input = lambda w, g: our_nn.grad.conv1d_input((1, 2, 4), w, g, **window)
    by_weight = lambda x, g: our_nn.grad.conv1d_weight(x, (2, 1, 2), g, **window)
    assert torch.autograd.gradcheck(by_input, (w, g))
    assert torch.autograd.gradcheck(by_weight, (x, g))
    assert torch.autograd.gradcheck(our_nn.grad.conv1d_bias, (g,))


def test_gradients_of_shapes_that_do_not_fit_are_refused() -> None:
    w, g = torch.ones(6, 4, 3, 3), torch.ones(2, 6, 4, 3)
    message = (
        r"grad_output has the shape \[2, 6, 4, 3\], but .* \[2, 4, 5, 5\] by .* \[2, 6, 3, 3\]"
    )
    with pytest.raises(RuntimeError, match=message):
        our_nn.grad.conv2d_input((2, 4, 5, 5), w, g)
    with pytest.raises(RuntimeError, match=message):
        our_nn.grad.conv2d_weight(torch.ones(2, 4, 5, 5), w.shape, g)
    with pytest.raises(RuntimeError):
        our_nn.grad.conv2d_input((2, 3, 5, 5), w, g)
    with pytest.raises(RuntimeError, match=r"must have 4 dimensions, got the shape \[2, 6\]"):
        our_nn.grad.conv2d_bias(torch.ones(2, 6))


# ---- Tools that make something else of a convolution ------------------------------------------------


def with_norm(convolution: Any) -> torch.nn.Sequential:
    """A convolution, a normalization that has seen something, and another convolution."""
    norm = torch.nn.BatchNorm2d(6)
    model = torch.nn.Sequential(convolution, norm, torch.nn.Conv2d(6, 3, 1))
    for x in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(x)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return model.eval()


def folded(model: torch.nn.Sequential) -> Any:
    return torch.nn.Sequential(fuse_conv_bn_eval(model[0], model[1]), model[2])


def by_mkldnn(model: torch.nn.Sequential) -> Any:
    made = importlib.import_module("torch.utils.mkldnn").to_mkldnn(model)
    return lambda x: made(x.to_mkldnn()).to_dense()


def by_fx(model: torch.nn.Sequential) -> Any:
    return importlib.import_module("torch.fx.experimental.optimization").fuse(model)


def quantized(model: torch.nn.Sequential) -> Any:
    model[0].qconfig = torch.ao.quantization.default_qconfig
    return torch.ao.nn.quantized.Conv2d.from_float(model[0])


def of_quantized_input(model: torch.nn.Sequential) -> Any:
    return model(torch.quantize_per_tensor(torch.ones(1, 4, 6, 5), 0.1, 0, torch.quint8))


def pruned(model: torch.nn.Sequential) -> Any:
    prune.custom_from_mask(model[0], "weight", torch.ones_like(model[0].weight))
    prune.remove(model[0], "weight")
    return model


def parametrized(model: torch.nn.Sequential) -> Any:
    parametrizations.weight_norm(model[0])
    torch.nn.utils.parametrize.remove_parametrizations(model[0], "weight")
    return model


def skipped(model: torch.nn.Sequential) -> Any:
    old = model[0]
    model[0] = torch.nn.utils.skip_init(our_nn.Conv2d, 4, 6, 3, activation=old.activation)
    model[0].load_state_dict(old.state_dict())
    return model


def moved(model: torch.nn.Sequential) -> Any:
    made = copy.deepcopy(model).to("meta").to_empty(device="cpu")
    made.load_state_dict(model.state_dict(), assign=True)
    return made


def traced(model: torch.nn.Sequential) -> Any:
    return torch.jit.freeze(torch.jit.trace(model, an_image()))


def an_image() -> Tensor:
    return torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(3))


TOOLS: dict[str, Callable[[torch.nn.Sequential], Any]] = {
    "folded": folded,
    "mkldnn": by_mkldnn,
    "fx": by_fx,
    "symbolic trace": torch.fx.symbolic_trace,
    "jit": traced,
    "pruned": pruned,
    "parametrized": parametrized,
    "skip_init": skipped,
    "moved": moved,
    "a copy": copy.deepcopy,
    "SyncBatchNorm": torch.nn.SyncBatchNorm.convert_sync_batchnorm,
    "a memory format": lambda model: torch.nn.utils.convert_conv2d_weight_memory_format(
        model, torch.channels_last
    ),
    "weights by assignment": lambda model: (
        setattr(model[0], "weight", torch.nn.Parameter(model[0].weight.clone())) or model
    ),
}
REFUSED = {"folded", "mkldnn"}


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("tool", TOOLS)
def test_tools_keep_an_activation_or_are_refused(tool: str, activation: str | None) -> None:
    model = with_norm(our_nn.Conv2d(4, 6, 3, activation=activation))
    x = an_image()
    with torch.no_grad():
        expected = model(x)
        if activation is not None and tool in REFUSED:
            with pytest.raises(RuntimeError, match=f"ends in activation='{activation}'; set its"):
                TOOLS[tool](model)
            torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
        else:
            torch.testing.assert_close(TOOLS[tool](model)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("tool", "error", "message"),
    [
        (quantized, AssertionError, "only works for Conv2d"),
        (of_quantized_input, RuntimeError, "quint8"),
        (torch.jit.script, RuntimeError, "(?s).*"),
    ],
)
def test_tools_for_exact_classes_refuse_what_they_do_not_know(
    tool: Callable[[torch.nn.Sequential], Any],
    error: type[Exception],
    message: str,
    activation: str | None,
) -> None:
    with pytest.raises(error, match=message):
        tool(with_norm(our_nn.Conv2d(4, 6, 3, activation=activation)))


def test_a_transposed_convolution_with_an_activation_is_not_folded() -> None:
    model = with_norm(our_nn.ConvTranspose2d(4, 6, 3, activation="relu"))
    with pytest.raises(RuntimeError, match="ends in activation='relu'"):
        fuse_conv_bn_eval(model[0], model[1], transpose=True)
    model[0].activation = None
    fused = fuse_conv_bn_eval(model[0], model[1], transpose=True)
    torch.testing.assert_close(fused(an_image()), model[:2](an_image()), rtol=1e-4, atol=1e-5)
