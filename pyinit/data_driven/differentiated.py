"""A model as a function of factors on its parameters, differentiated twice."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from pyinit.data_driven.adjustable import Adjustable
from pyinit.data_driven.engine import Work
from pyinit.inspection.batches import Batch, described

Values = dict[str, Tensor]
"""What the parameters are taken to hold, by their names."""


class Differentiated:
    """The loss of a model, whose parameters are multiplied by factors. ``differentiated`` makes it.

    Tensors of 16 bits are taken in float32. Nothing is written to the model.

    parts: the parameters that have a factor, each by itself
    """

    def __init__(
        self,
        name: str,
        work: Work,
        loss: Callable[..., Tensor],
        has_factor: Callable[[Adjustable], bool] | None,
    ) -> None:
        self._name, self._model, self._loss = name, work.model, loss
        self.parts: list[Adjustable] = []
        if has_factor is not None:
            self._take_parts(work, has_factor)
        for path, parameter in work.model.named_parameters():
            if not parameter.requires_grad:
                work.leave(path, "frozen: requires no gradient")
        own = {each.name for each in self.parts}
        self._bases = [_wide(each.base) for each in self.parts]
        self._others = {
            path: _wide(parameter.detach()).clone().requires_grad_(parameter.requires_grad)
            for path, parameter in work.model.named_parameters()
            if path not in own
        }

    def values(self, factors: Tensor | None = None) -> Values:
        """What the trained and all other parameters hold with these factors, if there are parts."""
        if factors is None:
            return dict(self._others)
        pairs = zip(self._bases, factors.unbind(), strict=True)
        scaled = (base * factor for base, factor in pairs)
        if not factors.requires_grad:
            scaled = (each.requires_grad_() for each in scaled)
        return dict(zip((each.name for each in self.parts), scaled, strict=True)) | self._others

    def loss(self, values: Values, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar that can be differentiated.

        Raises:
            RuntimeError: where the model or the loss fails.
            ValueError: for a loss that is none.
        """
        buffers = {name: _wide(each).clone() for name, each in self._model.named_buffers()}
        args, kwargs, target = tree_map(_wide, tuple(batch))
        with _as_error("the forward pass failed"):
            output = functional_call(self._model, {**values, **buffers}, args, kwargs)
        with _as_error(f"loss failed on output {described(output)}"):
            value = self._loss(output) if target is None else self._loss(output, target)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ValueError(f"loss must return a scalar tensor, got {described(value)}")
        if not value.requires_grad:
            raise ValueError(
                f"loss cannot be differentiated: the model returned {described(output)}, and nothing "
                "leads back from it"
            )
        return value.reshape(())

    def gradients(self, loss: Tensor, values: Values) -> dict[str, Tensor]:
        """The gradients by the trained parameters, which can be differentiated themselves.

        Raises:
            RuntimeError: for a function that is marked as not to be differentiated twice, which autograd
                might take for a constant.
        """
        marked = _marked(loss)
        if marked:
            raise RuntimeError(self._needs(" or ".join(sorted(marked))))
        trained = {name: each for name, each in values.items() if each.requires_grad}
        found = self.by(loss, list(trained.values()))
        return dict(zip(trained, found, strict=True))

    def by(self, of: Tensor, by: Sequence[Tensor], last: bool = False) -> list[Tensor]:
        """The gradients of a scalar, such as was computed from gradients. They can be differentiated
        themselves, unless they are the last ones.

        Raises:
            RuntimeError: for an operation without second derivatives, by its name.
        """
        if not of.requires_grad:  # the gradients depend on nothing
            return [torch.zeros_like(each) for each in by]
        try:
            return list(
                torch.autograd.grad(
                    of, by, create_graph=not last, allow_unused=True, materialize_grads=True
                )
            )
        except (RuntimeError, NotImplementedError) as error:
            lacking = _without_second_derivatives(error)
            if lacking is None:
                raise RuntimeError(f"the backward pass failed: {error}") from error
            raise RuntimeError(self._needs(lacking)) from error

    def _take_parts(self, work: Work, has_factor: Callable[[Adjustable], bool]) -> None:
        for each in work.parameters():
            if each.site.computed is not None:
                work.leave(each.name, "its module computes it from other parameters")
            elif has_factor(each) and bool(each.base.any()):
                self.parts.append(each)
        if not self.parts:
            raise ValueError(
                f"{self._name} found no parameter that a factor would change: those that it may change are "
                "0, or computed from others"
            )

    def _needs(self, lacking: str) -> str:
        return f"{self._name} needs second derivatives, and {lacking} has none"


@contextmanager
def differentiated(
    name: str,
    work: Work,
    loss: Callable[..., Tensor],
    has_factor: Callable[[Adjustable], bool] | None = lambda _: True,
) -> Iterator[Differentiated]:
    """The model at work as a function of factors.

    name: of the method, for messages
    loss: what is differentiated, as ``inspect`` takes it
    has_factor: which parameters get factors; those that are 0 get none. None: none does
    """
    # Fused attention has no second derivatives.
    with work.passes(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield Differentiated(name, work, loss, has_factor)


def check_search(steps: object, **positive: object) -> None:
    """Refuse a number of steps, or another number, that is no number above 0."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1, got {steps!r}")
    for name, value in positive.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:  # type: ignore[operator]
            raise ValueError(f"{name} must be a number above 0, got {value!r}")


_16_BITS = (torch.float16, torch.bfloat16)


def _wide(value: Any) -> Any:
    """A tensor, in float32 if it has 16 bits."""
    return value.float() if isinstance(value, Tensor) and value.dtype in _16_BITS else value


@contextmanager
def _as_error(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"{what}: {type(error).__name__}: {error}") from error


def _without_second_derivatives(error: Exception) -> str | None:
    """The operation that an error of autograd is about; None if it is about something else."""
    named = re.search(r"derivative for '?([\w:.]+?)'? is not implemented", str(error))
    return None if named is None else named[1]


def _marked(loss: Tensor) -> set[str]:
    """The functions of a user's in a graph that are marked as not to be differentiated twice."""
    functions = (getattr(type(node), "_forward_cls", None) for node in _nodes(loss))
    return {each.__name__ for each in functions if each is not None and _is_marked(each.backward)}


def _is_marked(backward: Any) -> bool:
    while backward is not None:
        if getattr(backward, "__code__", None) is _MARK:
            return True
        backward = getattr(backward, "__wrapped__", None)
    return False


_MARK = once_differentiable(_is_marked).__code__


def _nodes(loss: Tensor) -> Iterator[Any]:
    waiting, seen = [loss.grad_fn], set()
    for node in waiting:
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [each for each, _ in node.next_functions]
            yield node
