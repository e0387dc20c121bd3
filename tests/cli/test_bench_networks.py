"""The steps of training and the forward passes of ``pyinit bench network``."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import pyinit.nn
from pyinit.bench import Step, cases, measure, steps, usual_cases
from pyinit.bench._convolutions import LAYERS, Layer
from pyinit.bench._networks import NETWORKS, Network
from pyinit.cli import main

BY_NAME = {network.name: network for network in NETWORKS}
OURS = {getattr(pyinit.nn, name) for name in ("Conv1d", "Conv2d", "Conv3d")}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments])


def small(case: Step) -> Step:
    return replace(case, batch=2)


def test_the_pattern_network_chooses_every_step() -> None:
    found = [case for case in cases() if "network" in str(case)]
    assert found == steps()
    assert set(map(str, steps())) <= set(map(str, usual_cases()))
    assert {str(case) for case in steps()} >= {
        "network step float32 lenet5 28px b64",
        "network step float32 cnn-32-64 28px b64",
        "network step float32 resnet20 32px b64",
        "network step float32 mobilenet_v2-small 32px b64",
        "network forward float32 resnet20 32px b64",
    }
    assert {case.group for case in steps()} >= {"training steps", "networks forward"}


def layers(network: Network) -> Counter[Layer]:
    """Its convolutions, as layers of the bench."""
    seen: Counter[Layer] = Counter()

    def hear(module: nn.Module, arguments: tuple[torch.Tensor], _: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        window = module.kernel_size[0], module.stride[0], module.padding[0]
        channels = module.in_channels, module.out_channels
        seen[Layer("", *channels, *window, arguments[0].shape[-1], module.groups)] += 1

    with torch.device("meta"):
        model = network.make()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(hear)
        scores = model(torch.empty(2, network.channels, network.pixels, network.pixels))
    assert scores.shape == (2, 10)
    return seen


@pytest.mark.parametrize(
    ("name", "of_the_bench"),
    [("lenet5", "lenet5"), ("cnn-32-64", "cnn-32-64"), ("resnet20", "cifar-resnet")],
)
def test_networks_are_of_layers_that_the_bench_measures(name: str, of_the_bench: str) -> None:
    known = {layer._replace(network="") for layer in LAYERS if layer.network == of_the_bench}
    assert {layer for layer in layers(BY_NAME[name]) if layer.kernel > 1} == known


def test_networks_are_as_deep_as_they_are_called() -> None:
    resnet = layers(BY_NAME["resnet20"])
    assert sum(count for layer, count in resnet.items() if layer.kernel == 3) == 19
    assert sum(count for layer, count in resnet.items() if layer.kernel == 1) == 2
    mobilenet = layers(BY_NAME["mobilenet_v2-small"])
    assert sum(count for layer, count in mobilenet.items() if layer.is_depthwise) == 8
    assert (
        sum(mobilenet.values()) == 1 + 8 + 8 + 7
    )  # the first, and the three of all blocks but one


def test_work_is_that_of_the_layers() -> None:
    first, second = 64 * 6 * 28**2 * 25, 64 * 16 * 10**2 * 6 * 25
    linear = 64 * (400 * 120 + 120 * 84 + 84 * 10)
    lenet = BY_NAME["lenet5"]
    assert Step(lenet, "forward").work == 2 * (first + second + linear)
    assert Step(lenet, "step").work == 2 * (2 * first + 3 * (second + linear))


@pytest.mark.parametrize("case", steps(), ids=str)
def test_only_the_convolutions_are_others(case: Step) -> None:
    networks = small(case).argument().networks
    theirs, ours = (networks[library] for library in ("torch", "pyinit"))
    convolutions = [type(m) for m in ours.modules() if isinstance(m, nn.Conv2d)]
    assert convolutions
    assert set(convolutions) <= OURS
    assert not OURS & {type(module) for module in theirs.modules()}
    assert {network.training for network in networks.values()} == {case.part == "step"}
    state = theirs.state_dict()
    assert list(state) == list(ours.state_dict())
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, state[name])
        assert tensor.data_ptr() != state[name].data_ptr()


@pytest.mark.parametrize("case", steps(), ids=str)
def test_both_libraries_take_the_same_step(case: Step) -> None:
    argument = small(case).argument()
    before = {k: v.clone() for k, v in argument.networks["torch"].state_dict().items()}
    theirs, ours = (small(case).function(library)(argument) for library in ("torch", "pyinit"))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert theirs.requires_grad == (case.part == "step")
    after, likewise = (argument.networks[library].state_dict() for library in ("torch", "pyinit"))
    for name, tensor in after.items():
        torch.testing.assert_close(likewise[name], tensor, rtol=1e-4, atol=1e-4)
    is_trained = any(not torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert is_trained == (case.part == "step")


def test_rates_are_compared_with_products_of_matrices() -> None:
    found = measure(small(Step(BY_NAME["lenet5"], "step")), 0)
    theirs, ours = found["torch_share_of_sgemm"], found["share_of_sgemm"]
    assert theirs is not None
    assert ours is not None
    assert min(theirs, ours) > 0
    assert found["rate_unit"] == "GF/s"


def test_the_table_has_shares_of_sgemm_by_torch_and_pyinit() -> None:
    pattern = "^constant_.* 16$|conv2d forward .*lenet5 1>6 .* b1$"
    result = run("--quick", pattern)
    assert result.exit_code == 0
    _, columns, *lines = result.stdout.splitlines()
    assert columns.split()[-4:] == ["of", "peak", "of", "sgemm"]
    (constant,) = (line for line in lines if line.startswith("constant_"))
    assert constant.count("%") == 1
    layer = next(line for line in lines if line.startswith("conv2d"))
    theirs, ours = layer.split()[-1].removesuffix("%").split("/")
    assert min(int(theirs), int(ours)) >= 0
    fill, convolution = json.loads(run("--quick", "--json", pattern).stdout)["cases"]
    assert fill["torch_share_of_sgemm"] is fill["share_of_sgemm"] is None
    assert min(convolution["torch_share_of_sgemm"], convolution["share_of_sgemm"]) > 0
