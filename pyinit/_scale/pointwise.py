"""Activations as functions of float64 arrays, with their derivatives."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


class Pointwise:
    """An activation, which stays as it is: a module is copied, and run in float64 and evaluation mode."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        self._given = activation
        if isinstance(activation, nn.Module):
            activation = copy.deepcopy(activation).to("cpu", torch.float64).eval()
        self._activation = activation
        self._check_elementwise()

    def values(self, x: Array) -> Array:
        with torch.no_grad():
            out = self._called(torch.from_numpy(x.copy()))
        return self._finite(out, x, "be finite")

    def slopes(self, x: Array) -> Array:
        """The derivative that autograd has; zero where it has none, as for a comparison."""
        with torch.inference_mode(False), torch.enable_grad():
            at = torch.from_numpy(x.copy()).requires_grad_()
            out = self._called(at.clone())  # a copy, which it may overwrite
            gradient = None
            if out.requires_grad:
                (gradient,) = torch.autograd.grad(out.sum(), at, allow_unused=True)
        if gradient is None:
            return np.zeros_like(x)
        return self._finite(gradient, x, "have a finite derivative")

    def _called(self, x: Tensor) -> Tensor:
        out = self._activation(x)
        if not isinstance(out, Tensor) or out.is_complex():
            raise TypeError(f"nonlinearity must return a real tensor, got {type(out).__name__}")
        if out.shape != x.shape:
            raise ValueError(
                f"nonlinearity must keep the shape: {tuple(x.shape)} became {tuple(out.shape)}"
            )
        return out

    def _finite(self, out: Tensor, x: Array, promise: str) -> Array:
        array: Array = out.detach().to("cpu", torch.float64).numpy()
        if not np.isfinite(array).all():
            worst = x[~np.isfinite(array)][0]
            raise ValueError(f"nonlinearity must {promise}, got {self._given!r} at {worst:.4g}")
        return array

    def _check_elementwise(self) -> None:
        z = np.linspace(-4.0, 4.0, 33)
        if not np.allclose(self.values(z)[:20], self.values(z[:20]), rtol=1e-5, atol=1e-12):
            raise ValueError("nonlinearity must act on each element alone, the same at each call")
