"""torch's own functions, as they are when pyinit is first imported: replacing them changes nothing here."""

from types import ModuleType, SimpleNamespace
from typing import Any

import torch.nn.functional
import torch.nn.grad
import torch.nn.init


def _kept(name: str, module: ModuleType) -> Any:
    """The module's names now, or those known from before where this module is imported again."""
    return globals().get(name) or SimpleNamespace(**vars(module))


original: Any = _kept("original", torch.nn.init)
functional: Any = _kept("functional", torch.nn.functional)
gradients: Any = _kept("gradients", torch.nn.grad)
operations: Any = _kept("operations", torch)
