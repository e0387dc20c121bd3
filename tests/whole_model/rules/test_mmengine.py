"""mmengine's ``init_cfg`` dictionaries: what they give to which parameter."""

# mmengine writes its dictionaries so.
# ruff: noqa: C408

from typing import Any

import pytest
import torch
from torch import nn

from pyinit.whole_model.network import Network
from pyinit.whole_model.rules import Rules, as_rules
from pyinit.whole_model.rules.mmengine import from_init_cfg


class Net(nn.Module):
    """The one that mmengine's documentation explains ``init_cfg`` with, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.feat = nn.Conv1d(3, 1, 3)
        self.reg = nn.Conv2d(3, 3, 3)
        self.cls = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))


def chosen(cfg: Any, model: nn.Module | None = None) -> dict[str, str]:
    choices = Rules(from_init_cfg(cfg)).choose(Network(model or Net()))
    return {name: str(choice.initializer) for name, choice in sorted(choices.items())}


def constants(**values: tuple[float, float]) -> dict[str, str]:
    """Of weight and bias, by module."""
    return {
        f"{name.replace('_', '.')}.{leaf}": f"constant(val={value})"
        for name, pair in values.items()
        for leaf, value in zip(("bias", "weight"), reversed(pair), strict=True)
    }


@pytest.mark.parametrize(
    ("cfg", "expected"),
    [
        (
            dict(type="Constant", layer="Conv1d", val=1, bias=2),
            constants(feat=(1, 2)),
        ),
        (
            dict(type="Constant", layer=["Conv1d", "Conv2d"], val=1, bias=2),
            constants(feat=(1, 2), reg=(1, 2)),
        ),
        (
            [
                dict(type="Constant", layer="Conv1d", val=1, bias=0),
                dict(type="Constant", layer="Linear", val=2, bias=0),
            ],
            constants(cls_0=(2, 0), feat=(1, 0)),
        ),
        (
            dict(
                type="Constant",
                layer=["Conv1d", "Conv2d"],
                val=1,
                bias=2,
                override=dict(type="Constant", name="reg", val=3, bias=4),
            ),
            constants(feat=(1, 2), reg=(3, 4)),
        ),
        # without layer only the override's part is filled; with a name alone, as the rest says
        (
            dict(type="Constant", val=1, bias=2, override=dict(name="reg")),
            constants(reg=(1, 2)),
        ),
        # an override is for all modules in it, of whatever class
        (
            dict(
                type="Constant",
                val=1,
                bias=2,
                override=dict(name="cls", layer="Linear", type="Constant", val=5, bias=6),
            ),
            constants(cls_0=(5, 6), cls_1=(5, 6)),
        ),
        # what comes later goes over what came before
        (
            [
                dict(type="Constant", layer="Conv1d", val=1, bias=1, override=dict(name="reg")),
                dict(type="Constant", layer="_ConvNd", val=2, bias=2),
            ],
            constants(feat=(2, 2), reg=(2, 2)),
        ),
        (
            dict(
                type="Constant",
                val=1,
                override=[
                    dict(type="Constant", name="reg", val=1, bias=1),
                    dict(type="Constant", name="reg", val=2, bias=2),
                ],
            ),
            constants(reg=(2, 2)),
        ),
        (
            dict(type="Constant", layer="_BatchNorm", val=1, bias=3),
            constants(cls_1=(1, 3)),
        ),
    ],
)
def test_an_init_cfg_gives(cfg: Any, expected: dict[str, str]) -> None:
    assert chosen(cfg) == expected


@pytest.mark.parametrize(
    ("arguments", "initializer"),
    [
        (dict(type="Constant", val=3.5), "constant(val=3.5)"),
        (dict(type="Xavier"), "xavier_normal"),
        (dict(type="Xavier", gain=2, distribution="uniform"), "xavier_uniform(gain=2)"),
        (dict(type="Normal", std=0.01), "normal(std=0.01)"),
        (dict(type="Normal", mean=1, std=0.01), "normal(mean=1, std=0.01)"),
        (dict(type="TruncNormal", std=0.02, a=-1, b=1), "trunc_normal(std=0.02, a=-1, b=1)"),
        (dict(type="Uniform"), "uniform"),
        (dict(type="Uniform", a=-1), "uniform(a=-1)"),
        (dict(type="Kaiming"), "kaiming_normal(mode=fan_out, nonlinearity=relu)"),
        (
            dict(
                type="Kaiming",
                a=1,
                mode="fan_in",
                nonlinearity="leaky_relu",
                distribution="uniform",
            ),
            "kaiming_uniform(a=1)",
        ),
        (dict(type="Caffe2Xavier"), "kaiming_uniform(a=1)"),
        (dict(type="KaimingInit"), "kaiming_normal(mode=fan_out, nonlinearity=relu)"),
        (dict(type="Caffe2XavierInit"), "kaiming_uniform(a=1)"),
    ],
)
def test_types_have_mmengines_arguments_and_defaults(
    arguments: dict[str, Any], initializer: str
) -> None:
    assert chosen(arguments | {"layer": "Linear"}) == {
        "cls.0.bias": "constant(val=0)",
        "cls.0.weight": initializer,
    }


def test_bias_prob_is_the_bias_of_a_prior_probability() -> None:
    found = chosen(dict(type="Normal", std=0.01, layer="Linear", bias_prob=0.02, bias=5))
    assert found["cls.0.bias"] == "prior_bias(p=0.02)"


def test_layers_without_biases_are_no_error() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    assert list(chosen(dict(type="Xavier", layer="Linear"), model)) == ["0.weight"]


def test_layers_by_other_parameters_stay() -> None:
    model = nn.Sequential(nn.MultiheadAttention(4, 1))
    layers = ["MultiheadAttention", "NonDynamicallyQuantizableLinear"]
    names = chosen(dict(type="Xavier", layer=layers), model)
    assert list(names) == ["0.out_proj.bias", "0.out_proj.weight"]


def test_a_layer_is_matched_by_its_class_or_a_base_of_it() -> None:
    class Mine(nn.Linear):
        pass

    model = nn.Sequential(Mine(2, 2))
    for layer in ("Mine", "Linear"):
        assert len(chosen(dict(type="Normal", layer=layer), model)) == 2
    with pytest.raises(ValueError, match="did you mean Mine"):
        chosen(dict(type="Normal", layer="Mne"), model)


def test_an_override_of_no_module_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(rge\.\* weight -> .*the model has .*reg\.weight"):
        chosen(dict(type="Normal", override=dict(name="rge")))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (dict(type="Kaimnig", layer="Linear"), "unknown type 'Kaimnig' .*did you mean Kaiming"),
        (dict(layer="Linear"), "unknown type None"),
        (dict(type="Normal"), "neither layer nor override"),
        (dict(type="Normal", sd=1, layer="Linear"), "does not take 'sd'; it takes mean, std"),
        (dict(type="Normal", std="1", layer="Linear"), "std must be float"),
        (dict(type="Constant", layer="Linear"), "'val'"),
        (dict(type="Constant", val=1, bias="0", layer="Linear"), "val must be float, got '0'"),
        (dict(type="Normal", bias_prob=2.0, layer="Linear"), r"p must be in \(0, 1\)"),
        (dict(type="Xavier", distribution="gauss", layer="Linear"), "xavier_gauss"),
        (dict(type="Normal", layer=3), "layer must be a string or a list"),
        (dict(type="Normal", override=dict(type="Normal")), "override must be .* with a name"),
        (dict(type="Normal", override="reg"), "override must be .* with a name"),
        (dict(type="Normal", override=dict(name="reg", std=1)), "needs a type"),
        (dict(type="Pretrained", checkpoint="a.pth", prefix="b."), "use load_pretrained_"),
        (dict(type="Normal", override=dict(name="reg", type="Pretrained")), "load_pretrained_"),
    ],
)
def test_a_bad_init_cfg_says_why(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_init_cfg(cfg)


@pytest.mark.parametrize("cfg", [3, "Normal", [3]])
def test_what_is_no_init_cfg_is_refused(cfg: Any) -> None:
    with pytest.raises(TypeError, match="init_cfg must be"):
        from_init_cfg(cfg)


CFGS = [
    dict(type="Kaiming", layer=["Conv1d", "Conv2d"]),
    dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"], override=dict(name="reg")),
]


def test_rules_may_be_an_init_cfg() -> None:
    assert as_rules(CFGS) == Rules(from_init_cfg(CFGS))
    assert as_rules(CFGS[0]) == Rules(from_init_cfg(CFGS[0]))


def test_an_init_cfg_is_data_and_stays_as_it_was() -> None:
    before = repr(CFGS)
    rules = as_rules(CFGS)
    assert repr(CFGS) == before
    with torch.device("meta"):
        network = Network(Net())
    assert as_rules(rules.to_list()).choose(network) == rules.choose(network)
