"""Public functions and classes are pickled by their public names, wherever their code stands."""

import pickle

import pytest

import pyinit
from pyinit import init, initializers

FUNCTIONS = [getattr(init, name) for name in init.__all__]
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
