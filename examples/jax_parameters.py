"""JAX: make parameters by pyinit, then compile what uses them.

    python examples/jax_parameters.py

The functions have the names and arguments of ``jax.nn.initializers``. They run outside of ``jax.jit``.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

import pyinit

SIZES = (64, 128, 128, 10)


def parameters(key: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases of a perceptron."""
    weight, bias = pyinit.jax.he_normal(), pyinit.jax.zeros
    keys = jax.random.split(key, len(SIZES) - 1)
    return [
        (weight(each, (before, after)), bias(each, (after,)))
        for each, (before, after) in zip(keys, pairwise(SIZES), strict=True)
    ]


@jax.jit
def logits(layers: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    """What the perceptron gives."""
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


layers = parameters(jax.random.key(0))
for weight, _ in layers:
    aim = (2 / weight.shape[0]) ** 0.5
    print(f"{weight.shape}: standard deviation {weight.std():.3f}, aimed at {aim:.3f}")

outputs = logits(layers, jnp.asarray(np.random.default_rng(0).normal(size=(32, 64)), jnp.float32))
print(f"the compiled function gives {outputs.shape}, finite: {bool(jnp.isfinite(outputs).all())}")

again = parameters(jax.random.key(0))
same = all(jnp.array_equal(a, b) for (a, _), (b, _) in zip(layers, again, strict=True))
print(f"the same key gives the same weights: {same}")
