"""Keras: the same kernels on every backend, in a model that is saved and loaded.

    python examples/keras_layers.py

``KERAS_BACKEND`` chooses the backend: torch, jax or tensorflow.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

import pyinit

model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(32, "relu", kernel_initializer=pyinit.keras.HeNormal(seed=1)),
        keras.layers.Dense(32, "relu", kernel_initializer=pyinit.keras.Orthogonal(seed=2)),
        keras.layers.Dense(10, kernel_initializer=pyinit.keras.GlorotUniform(seed=3)),
    ]
)
first, second, _ = (keras.ops.convert_to_numpy(layer.kernel) for layer in model.layers)
print(f"the first kernel has a standard deviation of {first.std():.3f}, √(2/64) is 0.177")
print(f"the second is orthogonal: {np.allclose(second.T @ second, np.eye(32), atol=1e-5)}")

# HeNormal is a truncated normal of the generator that fills tensors: the same numbers, by key and shape.
std = (2 / 64) ** 0.5 / 0.87962566103423978  # what the cut at two standard deviations takes away
same = np.empty((64, 32), np.float32)
pyinit.fill.trunc_normal(same, 0.0, std, -2 * std, 2 * std, key=1)
print(f"it has the numbers of pyinit.fill with that key: {np.array_equal(first, same)}")

model.save("model.keras")
loaded = keras.models.load_model("model.keras")
names = [type(layer.kernel_initializer).__module__ for layer in loaded.layers]
print(f"the initializers of the loaded model are from {', '.join(sorted(set(names)))}")
