"""Public functions and classes are pickled by their public names, wherever their code stands."""

import pickle

import pytest
import torch
from programs import output_of

import pyinit
from pyinit import functional, init, initializers

FUNCTIONS = [getattr(init, name) for name in init.__all__]
OTHERS = [getattr(functional, name) for name in functional.__all__]
OTHERS += [
    value
    for name in pyinit.__all__
    if name not in init.__all__ and hasattr(value := getattr(pyinit, name), "__qualname__")
]
# Where an earlier version had what it pickled.
EARLIER = {
    "_activations": ["gelu", "log_softmax", "relu"],
    "_columns": ["col2im", "convolution_by_im2col", "im2col"],
    "_gain": ["calculate_gain"],
    "_packed_weight": ["PackedWeight", "pack_weight"],
    "_rng": ["get_rng", "rng", "set_rng"],
    "whole_model.load_report": ["Adapted", "LoadReport", "Mismatched"],
    "whole_model.patterns": ["AnyOf", "Glob", "OfType", "OfTypeNamed", "Predicate", "Regex"],
    "whole_model.pretrained": ["load_pretrained_"],
    "whole_model.report": ["InitReport", "Row"],
    "whole_model.rule": ["Rule"],
}
VALUES = [initializers.make(name) for name in ("normal", "kaiming_uniform", "keep", "own_reset")]
VALUES += [initializers.Parts((initializers.ZEROS, initializers.Sparse(0.5)))]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_function_is_pickled_by_its_public_name(function) -> None:
    assert function.__module__ == "pyinit.init"
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", [*init.__all__, "_no_grad_normal_"])
def test_a_function_pickled_by_an_earlier_pyinit_loads(name: str) -> None:
    assert pickle.loads(f"cpyinit.init\n{name}\n.".encode()) is getattr(init, name)


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_an_initializer_is_pickled_by_its_public_name(value: initializers.Initializer) -> None:
    assert type(value).__module__ == "pyinit.initializers"
    pickled = pickle.dumps(value, protocol=0)
    assert pickle.loads(pickled) == value
    assert b"pyinit.initializers\n" in pickled
    assert b"initializers._" not in pickled


def test_an_initializer_pickled_by_an_earlier_pyinit_loads() -> None:
    pickled = (
        b"\x80\x04\x95I\x00\x00\x00\x00\x00\x00\x00\x8c\x13pyinit.initializers\x94\x8c\x06Normal"
        b"\x94\x93\x94)\x81\x94}\x94(\x8c\x04mean\x94G\x00\x00\x00\x00\x00\x00\x00\x00\x8c\x03std"
        b"\x94G?\x94z\xe1G\xae\x14{ub."
    )
    assert pickle.loads(pickled) == pyinit.initializers.Normal(std=0.02)


@pytest.mark.parametrize("value", OTHERS, ids=lambda value: value.__name__)
def test_a_value_is_pickled_by_its_public_name(value) -> None:
    assert value.__module__ in ("pyinit", "pyinit.functional")
    assert pickle.loads(pickle.dumps(value)) is value


@pytest.mark.parametrize("module", EARLIER)
def test_what_an_earlier_pyinit_pickled_is_the_present_one(module: str) -> None:
    for name in EARLIER[module]:
        value = pickle.loads(f"cpyinit.{module}\n{name}\n.".encode())
        assert value.__name__ == name
        assert value is getattr(functional, name, getattr(pyinit, name, value))


def test_a_pickle_may_be_what_imports_pyinit() -> None:
    program = r"import pickle; print(pickle.loads(b'cpyinit.whole_model.report\nInitReport\n.'))"
    assert output_of(program) == "<class 'pyinit.InitReport'>\n"


def test_a_packed_weight_pickled_by_an_earlier_pyinit_loads() -> None:
    packed = functional.pack_weight(torch.ones(4, 2, 3, 3))
    pickled = pickle.dumps(packed, protocol=0)
    assert b"cpyinit.functional\npack_weight\n" in pickled
    earlier = pickled.replace(b"cpyinit.functional\n", b"cpyinit._packed_weight\n")
    loaded = pickle.loads(earlier)
    assert type(loaded) is functional.PackedWeight
    assert torch.equal(loaded.weight, packed.weight)
