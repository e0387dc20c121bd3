"""What check refuses, and by what name; what it lists because it cannot be looked at."""

import warnings
from typing import Any

import pytest
import torch
from torch import nn

import pyinit


def test_a_factory_must_return_a_module() -> None:
    with pytest.raises(TypeError, match=r"factory must return a torch.nn.Module, got dict"):
        pyinit.check(dict)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [3, None, torch.ones(3)])
def test_a_model_is_a_module_a_factory_or_a_checkpoint(model: Any) -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, a factory, a path or"):
        pyinit.check(model)


def test_what_a_factory_raises_comes_through() -> None:
    def build() -> nn.Module:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        pyinit.check(build)


def test_init_is_a_name_or_a_callable() -> None:
    with pytest.raises(TypeError, match=r"init must be the name of a method .* got int"):
        pyinit.check(nn.Linear(2, 2), 3)  # type: ignore[arg-type]
    for model in (nn.Linear(2, 2), lambda: nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="init: Linear has no method 'init_weights'"):
            pyinit.check(model, "init_weights")
    with pytest.raises(ValueError, match="init: no module of Identity has reset_parameters"):
        pyinit.check(nn.Identity(), "reset_parameters")


def test_a_lazy_parameter_is_refused_by_name() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.LazyLinear(4))
    for init in (None, "reset_parameters"):
        with pytest.raises(ValueError, match=r"0.weight has no shape yet: it is lazy"):
            pyinit.check(model, init)


def test_a_checkpoint_is_not_made_again() -> None:
    with pytest.raises(TypeError, match="a checkpoint has no init"):
        pyinit.check({"a": torch.ones(2)}, "reset_parameters")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pyinit.check("nowhere.safetensors")


def test_a_module_alone_cannot_be_made_again() -> None:
    with pytest.raises(ValueError, match="reproducible needs init, or a factory"):
        pyinit.check(nn.Linear(2, 2), reproducible=True)


@pytest.mark.parametrize(
    ("ignore", "error", "message"),
    [
        (["PI001"], TypeError, "ignore must map codes or patterns .* got list"),
        ({"PI001": 3}, TypeError, "ignore must map strings to strings, got 'PI001': 3"),
        ({"PI999": "why"}, ValueError, "no finding has the code PI999; known are PI001"),
        ({"PI001": " "}, ValueError, "'PI001' needs a reason"),
    ],
)
def test_ignore_needs_known_codes_and_reasons(
    ignore: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pyinit.check(nn.Linear(2, 2), ignore=ignore)


class Holder(nn.Module):
    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("held", tensor)


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)


@pytest.mark.parametrize("tensor", [lambda: torch.eye(3).to_sparse(), quantized])
def test_what_cannot_be_looked_at_is_listed_and_never_put_at_risk(tensor: Any) -> None:
    for model in (Holder(tensor()), lambda: Holder(tensor())):
        findings = pyinit.check(model)
        assert [(f.code, f.parameter) for f in findings] == [("PI007", "held")]
        assert not findings.failures
    assert not pyinit.check(lambda: Holder(tensor()), "reset_parameters").failures
    with pytest.raises(ValueError, match="held could not be put back"):
        pyinit.check(Holder(tensor()), "reset_parameters")


def test_a_dtensor_is_listed_and_never_put_at_risk(mesh: Any) -> None:
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415

    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(distribute_tensor(model.weight.detach(), mesh))
    findings = pyinit.check(model)
    assert [(f.code, f.parameter) for f in findings] == [("PI007", "weight")]
    with pytest.raises(ValueError, match=r"weight \(a DTensor"):
        pyinit.check(model, "reset_parameters")


def test_inference_tensors_are_refused_before_anything_is_written() -> None:
    with torch.inference_mode():
        model = nn.Linear(4, 4)
    assert not pyinit.check(model).failures
    before = model.weight.clone()
    with pytest.raises(RuntimeError, match="weight is an inference tensor"):
        pyinit.check(model, "reset_parameters")
    assert torch.equal(model.weight, before)


def test_parts_on_meta_are_named() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, device="meta"))
    for init in (None, "reset_parameters"):
        findings = pyinit.check(model, init)
        assert [(f.code, f.parameter) for f in findings.failures] == [
            ("PI004", "1.weight"),
            ("PI004", "1.bias"),
        ]


def test_the_default_device_is_the_users() -> None:
    with torch.device("meta"):
        findings = pyinit.check(lambda: nn.Linear(4, 4))
        assert {f.code for f in findings} == {"PI004"}
        assert not pyinit.check(lambda: nn.Linear(4, 4, device="cpu"), "reset_parameters").codes


def test_a_model_without_parameters_is_clean() -> None:
    assert len(pyinit.check(nn.Identity())) == 0
    assert len(pyinit.check(nn.Identity)) == 0


def test_a_compiled_model_is_the_model_inside(compiler: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    nn.init.zeros_(model[1].weight)
    (finding,) = pyinit.check(compiler(model)).failures
    assert (finding.code, finding.parameter) == ("PI109", "1.weight")


@pytest.mark.parametrize("code", ["PI1", "pi001", "PI0001"])
def test_ignore_takes_no_misspelt_code_for_a_pattern(code: str) -> None:
    with pytest.raises(ValueError, match=f"no finding has the code {code}; known are PI001"):
        pyinit.check(nn.Linear(2, 2), ignore={code: "why"})
