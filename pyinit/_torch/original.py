"""torch's own functions as they were when pyinit was imported; replacing torch's later changes nothing here."""

from types import ModuleType, SimpleNamespace
from typing import Any

import torch.nn.functional
import torch.nn.grad
import torch.nn.init
from torch import Tensor


def _kept(name: str, module: ModuleType) -> Any:
    """The names of a module of torch's, as they were when this module was first imported."""
    return globals().get(name) or SimpleNamespace(**vars(module))


original: Any = _kept("original", torch.nn.init)
functional: Any = _kept("functional", torch.nn.functional)
gradients: Any = _kept("gradients", torch.nn.grad)
operations: Any = _kept("operations", torch)
methods: Any = globals().get("methods") or SimpleNamespace(
    uniform_=Tensor.uniform_, normal_=Tensor.normal_
)
