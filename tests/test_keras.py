"""Keras's initializers, drawn by pyinit: one table of numbers for every backend."""

import math
import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

import pyinit
from pyinit._random.rng import Key

keras = pytest.importorskip("keras")

DTYPES = ["float16", "bfloat16", "float32", "float64"]
BACKENDS = ["torch", "jax", "tensorflow"]
IS_TORCH = keras.backend.backend() == "torch"
TRUNCATED = 0.87962566103423978  # the standard deviation of a normal number cut at two of them

needs_torch = pytest.mark.skipif(not IS_TORCH, reason="Keras has another backend here")


def values(tensor: Any) -> torch.Tensor:
    assert isinstance(tensor, torch.Tensor)
    return tensor.detach()


def uniform(shape: Any, variance: float, dtype: torch.dtype = torch.float32, **key: int) -> Any:
    limit = math.sqrt(3 * variance)
    return pyinit.fill.uniform(
        torch.empty(shape, dtype=dtype), -limit, limit, **(key or {"key": 5})
    )


def cut(shape: Any, variance: float, dtype: torch.dtype = torch.float32) -> Any:
    std = math.sqrt(variance) / TRUNCATED
    tensor = torch.empty(shape, dtype=dtype)
    return pyinit.fill.trunc_normal(tensor, 0.0, std, -2 * std, 2 * std, key=5)


SHAPE = (3, 3, 4, 8)  # fans of 36 and 72
EXPECTED: dict[str, tuple[dict[str, Any], Any]] = {
    "GlorotUniform": ({}, uniform(SHAPE, 1 / 54)),
    "GlorotNormal": ({}, cut(SHAPE, 1 / 54)),
    "HeUniform": ({}, uniform(SHAPE, 2 / 36)),
    "HeNormal": ({}, cut(SHAPE, 2 / 36)),
    "LecunUniform": ({}, uniform(SHAPE, 1 / 36)),
    "LecunNormal": ({}, cut(SHAPE, 1 / 36)),
    "VarianceScaling": ({"scale": 3.0, "mode": "fan_out"}, cut(SHAPE, 3 / 72)),
    "RandomUniform": (
        {"minval": -1.0, "maxval": 2.0},
        pyinit.fill.uniform(torch.empty(SHAPE), -1.0, 2.0, key=5),
    ),
    "RandomNormal": (
        {"mean": 1.0, "stddev": 0.5},
        pyinit.fill.normal(torch.empty(SHAPE), 1.0, 0.5, key=5),
    ),
    "TruncatedNormal": (
        {"mean": 1.0, "stddev": 0.5},
        pyinit.fill.trunc_normal(torch.empty(SHAPE), 1.0, 0.5, 0.0, 2.0, key=5),
    ),
    "Orthogonal": (
        {"gain": 2.0},
        pyinit.orthogonal_(torch.empty(36, 8), 2.0, Key(5)).view(SHAPE),
    ),
}
CONSTANTS = {"Zeros": {}, "Ones": {}, "Constant": {"value": 0.5}, "Identity": {"gain": 2.0}}


@needs_torch
@pytest.mark.parametrize("name", EXPECTED)
def test_a_kernel_has_the_numbers_of_its_seed(name: str) -> None:
    options, expected = EXPECTED[name]
    init = getattr(pyinit.keras, name)(**options, seed=5)
    assert isinstance(init, getattr(keras.initializers, name))
    for _ in range(2):  # as Keras's, which give the same at each call
        assert torch.allclose(values(init(SHAPE)), expected, rtol=2e-7, atol=0)


@needs_torch
@pytest.mark.parametrize("name", EXPECTED)
def test_kernels_have_keras_own_distribution(name: str) -> None:
    options, _ = EXPECTED[name]
    shape = (3, 3, 40, 80)
    ours = values(getattr(pyinit.keras, name)(**options, seed=1)(shape)).double()
    theirs = values(getattr(keras.initializers, name)(**options, seed=1)(shape)).double()
    assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.03)
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.02)
    assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.3)


@needs_torch
def test_a_model_of_keras_is_not_taken_for_one_of_torch() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(
        TypeError, match=r"got Keras's Sequential; its layers take .* pyinit\.keras"
    ):
        pyinit.initialize_(model, seed=0)


@needs_torch
def test_constants_and_the_identity() -> None:
    for ours, theirs in (
        (pyinit.keras.Zeros(), keras.initializers.Zeros()),
        (pyinit.keras.Ones(), keras.initializers.Ones()),
        (pyinit.keras.Constant(0.25), keras.initializers.Constant(0.25)),
        (pyinit.keras.Identity(-2.0), keras.initializers.Identity(-2.0)),
    ):
        assert torch.equal(values(ours((3, 5))), values(theirs((3, 5))))


@needs_torch
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_that_kernels_write(dtype: str) -> None:
    kernel = values(pyinit.keras.HeUniform(seed=5)((6, 4), dtype=dtype))
    assert kernel.dtype is getattr(torch, dtype)
    assert torch.allclose(kernel, uniform((6, 4), 2 / 6, kernel.dtype), rtol=1e-15, atol=0)
    assert values(pyinit.keras.HeUniform(seed=5)((6, 4))).dtype is torch.float32


@needs_torch
@pytest.mark.parametrize(("shape", "fan"), [((), 1), ((7,), 7), ((7, 3), 7), ((2, 7, 3), 14)])
def test_fans_are_keras_fans(shape: tuple[int, ...], fan: int) -> None:
    kernel = values(pyinit.keras.HeUniform(seed=5)(shape))
    assert torch.allclose(kernel, uniform(shape, 2 / fan), rtol=2e-7)


@needs_torch
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
def test_kernels_without_elements(shape: tuple[int, ...]) -> None:
    for name in ("HeNormal", "RandomNormal", "Zeros", "Orthogonal"):
        if name == "Orthogonal" and len(shape) < 2:
            continue
        assert tuple(getattr(pyinit.keras, name)()(shape).shape) == shape


@needs_torch
def test_axes_make_the_fans_where_they_are_given() -> None:
    options = {"input_axes": [0, 1], "output_axes": [2], "seed": 5, "distribution": "uniform"}
    kernel = values(pyinit.keras.VarianceScaling(2.0, **options)((4, 8, 3)))
    assert torch.allclose(kernel, uniform((4, 8, 3), 2 / 32), rtol=2e-7)


@needs_torch
def test_a_generator_of_seeds_counts_streams() -> None:
    generator = keras.random.SeedGenerator(9)
    init = pyinit.keras.HeUniform(seed=generator)
    for stream in range(3):
        expected = uniform((6, 4), 2 / 6, key=9, stream=stream)
        assert torch.equal(values(init((6, 4))), expected)


@needs_torch
def test_what_is_refused_takes_no_seed() -> None:
    generator = keras.random.SeedGenerator(9)
    with pytest.raises(ValueError, match="needs at least 2 dimensions"):
        pyinit.keras.Orthogonal(seed=generator)((3,))
    assert int(generator.state.value[1]) == 0


def test_a_seed_of_none_is_chosen_by_keras() -> None:
    keras.utils.set_random_seed(3)
    first = pyinit.keras.HeUniform()
    keras.utils.set_random_seed(3)
    assert pyinit.keras.HeUniform().seed == first.seed
    assert pyinit.keras.HeUniform().seed != first.seed
    assert first.get_config()["seed"] is None


@pytest.mark.parametrize("name", pyinit.keras.__all__)
def test_an_initializer_comes_back_from_its_configuration(name: str) -> None:
    options = EXPECTED[name][0] | {"seed": 5} if name in EXPECTED else CONSTANTS[name]
    init = getattr(pyinit.keras, name)(**options)
    for again in (
        type(init).from_config(init.get_config()),
        keras.initializers.deserialize(keras.initializers.serialize(init)),
        keras.initializers.get({"class_name": f"pyinit>{name}", "config": init.get_config()}),
        init.clone(),
    ):
        assert type(again) is type(init)
        assert again.get_config() == init.get_config() == options | init.get_config()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras on torch
def test_a_model_is_saved_with_its_initializers(tmp_path: Any) -> None:
    layer = keras.layers.Dense(3, kernel_initializer=pyinit.keras.HeUniform(seed=7))
    model = keras.Sequential([keras.Input((4,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    init = loaded.layers[0].kernel_initializer
    assert type(init) is pyinit.keras.HeUniform
    assert init.seed == 7


def test_a_class_derived_from_one_keeps_its_numbers() -> None:
    class Mine(pyinit.keras.HeUniform):
        """Somebody's own."""

    same = keras.ops.equal(Mine(seed=5)((3, 3)), pyinit.keras.HeUniform(seed=5)((3, 3)))
    assert bool(keras.ops.all(same))


@needs_torch
def test_the_articles_network_trains() -> None:
    keras.utils.set_random_seed(0)
    he = pyinit.keras.HeUniform
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Conv2D(8, (3, 3), activation="relu", kernel_initializer=he(seed=0)),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(20, activation="relu", kernel_initializer=he(seed=1)),
            keras.layers.Dense(
                3, activation="softmax", kernel_initializer=pyinit.keras.GlorotNormal(seed=2)
            ),
        ]
    )
    assert torch.equal(values(model.layers[0].kernel.value), uniform((3, 3, 1, 8), 2 / 9, key=0))
    model.compile("adam", loss="sparse_categorical_crossentropy", run_eagerly=True)
    numbers = np.random.default_rng(0)
    labels = numbers.integers(0, 3, 60)
    images = numbers.normal(labels[:, None, None, None], 0.5, (60, 12, 12, 1)).astype("float32")
    before = model.test_on_batch(images, labels)
    for _ in range(20):
        model.train_on_batch(images, labels)
    assert float(model.test_on_batch(images, labels)) < 0.7 * float(before)


@needs_torch
def test_recurrent_and_embedding_layers_take_them() -> None:
    layer = keras.layers.LSTM(
        4,
        kernel_initializer=pyinit.keras.GlorotUniform(seed=1),
        recurrent_initializer=pyinit.keras.Orthogonal(seed=2),
        bias_initializer=pyinit.keras.Zeros(),
    )
    layer.build((None, 5, 3))
    rows = values(layer.cell.recurrent_kernel.value)
    assert torch.allclose(rows @ rows.T, torch.eye(4), atol=1e-5)
    embedding = keras.layers.Embedding(9, 4, pyinit.keras.RandomUniform(seed=1))
    embedding.build(None)
    assert values(embedding.embeddings.value).abs().max() <= 0.05


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: pyinit.keras.HeUniform()((3, 3), dtype="int32"),
            TypeError,
            "dtype must be .* int32",
        ),
        (lambda: pyinit.keras.Zeros()((3, 3), dtype="float8_e4m3fn"), TypeError, "dtype must be"),
        (lambda: pyinit.keras.HeUniform()((3, None)), TypeError, "shape must be a sequence of int"),
        (lambda: pyinit.keras.HeUniform()((3, -1)), ValueError, "no negative sizes"),
        (
            lambda: pyinit.keras.HeUniform(seed=-1)((3, 3)),
            ValueError,
            r"seed must be in \[0, 2\^64\)",
        ),
        (lambda: pyinit.keras.HeUniform(seed=2**64)((3, 3)), ValueError, "seed must be in"),
        (lambda: pyinit.keras.HeUniform(seed="x"), ValueError, "seed"),
        (lambda: pyinit.keras.Identity()((3, 3, 3)), ValueError, "eye needs 2 dimensions"),
        (lambda: pyinit.keras.Orthogonal()((3,)), ValueError, "orthogonal needs at least 2"),
        (lambda: pyinit.keras.VarianceScaling(-1.0), ValueError, "scale"),
        (
            lambda: pyinit.keras.RandomNormal(stddev=1e9)((3,), dtype="float16"),
            ValueError,
            "beyond the range of float16",
        ),
    ],
)
def test_what_cannot_be_made_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


# ---- Backends, each in a process of its own ------------------------------------------------------

PROGRAM = """
    import numpy as np, keras, pyinit
    from pyinit._random.rng import Key
    assert keras.backend.backend() == {backend!r}
    limit = (6 / 36) ** 0.5
    for dtype in ("float16", "bfloat16", "float32"):
        layer = keras.layers.Conv2D(
            8, 3, kernel_initializer=pyinit.keras.HeUniform(seed=5), dtype=dtype
        )
        layer.build((None, 9, 9, 4))
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        expected = pyinit.fill.uniform(np.empty((3, 3, 4, 8), kernel.dtype), -limit, limit, key=5)
        assert np.array_equal(kernel, expected), dtype
    dense = keras.layers.Dense(8, kernel_initializer=pyinit.keras.Orthogonal(2.0, seed=3))
    dense.build((None, 12))
    expected = pyinit.orthogonal_(np.empty((12, 8), np.float32), 2.0, Key(3))
    assert np.array_equal(keras.ops.convert_to_numpy(dense.kernel), expected)
    generator = keras.random.SeedGenerator(2**31 - 5)
    init = pyinit.keras.RandomNormal(seed=generator)
    for stream in range(2):
        expected = pyinit.fill.normal(
            np.empty((5,), np.float32), 0.0, 0.05, key=generator.get_config()["seed"], stream=stream
        )
        assert np.array_equal(keras.ops.convert_to_numpy(init((5,))), expected)
    model = keras.Sequential([keras.Input((12,)), dense])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 12)), np.ones((4, 8)), verbose=0)
    print("done")
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_the_same_numbers(backend: str) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    code = textwrap.dedent(PROGRAM.format(backend=backend))
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.endswith("done\n"), run.stderr


def test_a_traced_seed_is_refused() -> None:
    jax = pytest.importorskip("jax")
    init = pyinit.keras.HeUniform(seed=5)

    class Traced:
        class state:  # noqa: N801
            value: Any = None

    def call(value: Any) -> Any:
        Traced.state.value = value
        init.seed = Traced()
        return init((3, 3))

    with pytest.raises(TypeError, match="seed must have a value here"):
        jax.jit(call)(np.zeros(2, np.uint32))
