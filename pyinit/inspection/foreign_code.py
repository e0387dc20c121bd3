"""Whether Python code of others can run in a backward pass, which then could write to anything."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

# By these, others come by nodes of the graph, or have something called in the backward pass.
_DOORS: Collection[Any] = {
    vars(torch._C.TensorBase)["grad_fn"].__get__,
    Tensor.register_hook,
    Tensor.register_post_accumulate_grad_hook,
}
_PLAIN = (Tensor, nn.Parameter, nn.Buffer)
_NODES = frozenset(vars(torch._C._functions).values())  # the classes of torch's own
_saving_hooks: Callable[[bool], Any] = torch._C._autograd._top_saved_tensors_default_hooks
_sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr


class ForeignCode:
    """What a forward pass has left in its graph.

    Args:
        tensors: those that the pass begins with: of the model, and of its inputs
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._start = _sequence_number()
        self._found = any(type(tensor) not in _PLAIN for tensor in tensors)

    def expect(self) -> None:
        """Take it that there is some."""
        self._found = True

    def meet(self, func: Any, types: Collection[type]) -> None:
        """Look at a function of torch's that the forward calls."""
        self._found = (
            self._found
            or func in _DOORS
            or not all(kind in _PLAIN for kind in types)
            or _saving_hooks(True) is not None
        )

    def can_run(self, loss: Tensor) -> bool:
        """Whether some can run in the backward pass from the loss."""
        return (
            self._found
            or len(_get_current_dispatch_mode_stack()) > 1
            or not all(map(self._is_known, _nodes(loss.grad_fn)))
        )

    def _is_known(self, node: Any) -> bool:
        if type(node) not in _NODES:
            return False
        leaf = getattr(node, "variable", None)
        if leaf is None:  # a node that is older may have any hooks
            return bool(node._sequence_nr() >= self._start)
        return not leaf._backward_hooks and not leaf._post_accumulate_grad_hooks


def _nodes(root: Any) -> Iterable[Any]:
    waiting, seen = [root], {root}
    for node in waiting:
        yield node
        for after, _ in node.next_functions:
            if after is not None and after not in seen:
                seen.add(after)
                waiting.append(after)
