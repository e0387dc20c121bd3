"""Kinds of modules: layers, norms, embeddings and recurrent layers, and how their weights lie."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pyinit._torch.views import whole_shape

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
PARAMETER_HOLDERS = (nn.ParameterList, nn.ParameterDict)
"""Modules whose parameters the module around them uses."""

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
RECURRENT_LAYERS = (nn.RNNBase, nn.RNNCellBase)
LSTMS = (nn.LSTM, nn.LSTMCell)

_GATES: Mapping[type, int] = {
    **dict.fromkeys(LSTMS, 4),
    **dict.fromkeys((nn.GRU, nn.GRUCell), 3),
}

EXPERT_ENDS = ("down_proj", "w2")
"""The stacks of experts' last matrices, by their names."""

_ROUTER_NAME = re.compile(r"Router$|(TopK|MoE|Moe)Gate$")

# What the forward of a convolution calls, or its class is named, if it standardizes its own weight.
_STANDARDIZES = re.compile(r"^(batch_norm|std|var|std_mean|var_mean|standardi\w*|\w*_ws_\w*)$")
_STANDARDIZING_NAME = re.compile(r"StdConv|ConvWS|WSConv|WeightStandardi[sz]ed")

# Names of classes of norms that torch does not have; those of transformers' that multiply by
# 1 + weight.
_NORM_NAME = re.compile(r"Norm(\dd|Gated)?$")
_CENTRED_NORM_NAME = re.compile(
    r"(Gemma[23]?|Qwen3Next|Qwen3_5(Moe)?|Qwen4ExpText|MiniMaxM3VL|Step3p7|Centered)RMSNorm$"
)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is a layer: it multiplies its input by a weight."""
    return isinstance(module, (nn.Linear, _ConvNd, nn.Bilinear)) or is_conv1d(module)


def standardizes_its_weight(module: nn.Module) -> bool:
    """Whether a module is a convolution that standardizes its weight in each pass, as NFNets' do."""
    cls = type(module)
    if not isinstance(module, _ConvNd) or cls.__module__.startswith("torch."):
        return False
    forward = getattr(cls.forward, "__code__", None)
    called = getattr(forward, "co_names", ())
    return bool(_STANDARDIZING_NAME.search(cls.__name__)) or any(map(_STANDARDIZES.search, called))


def is_expert_stack(module: nn.Module) -> bool:
    """Whether a module holds the matrices of a mixture's experts as stacks, (experts, ..., ...)."""
    weights = [module._parameters.get(name) for name in EXPERT_ENDS]
    return "expert" in type(module).__name__.lower() and any(
        weight is not None and len(whole_shape(weight)) == 3 for weight in weights
    )


def are_experts_transposed(module: nn.Module) -> bool | None:
    """Whether a stack of experts is (experts, in, out); None if neither module nor shapes tell."""
    said = getattr(module, "is_transposed", None)
    if isinstance(said, bool):
        return said
    shapes = {
        name: whole_shape(parameter)
        for name, parameter in module._parameters.items()
        if parameter is not None and len(whole_shape(parameter)) == 3
    }
    last = next((shapes[name] for name in EXPERT_ENDS if name in shapes), None)
    first = next((shape for name, shape in shapes.items() if name not in EXPERT_ENDS), None)
    if first is None or last is None:
        return None
    as_torchs, transposed = first[2] == last[1], first[1] == last[2]
    if as_torchs != transposed:
        return transposed
    return False if as_torchs and first[1] == first[2] else None


def is_router(module: nn.Module) -> bool:
    """Whether a module chooses the experts of a mixture by a weight of its own, (experts, in)."""
    return bool(_ROUTER_NAME.search(type(module).__name__)) and not is_layer(module)


def is_conv1d(module: nn.Module) -> bool:
    """Whether a module is the Conv1D of transformers: a linear layer whose weight is (in, out)."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def is_conv(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd)


def is_state_space(module: nn.Module) -> bool:
    """Whether a module is a selective state space, as Mamba's: it holds the log of its decays."""
    return not {"A_log", "A_logs"}.isdisjoint(module._parameters)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm: one of torch's, or one without modules that is called a norm."""
    return isinstance(module, NORMS) or ("Norm" in type(module).__name__ and not module._modules)


def has_norm_name(module: nn.Module) -> bool:
    """Whether a class has a name such as ``LayerNorm2d``, so that its vectors are a norm's scale and
    shift. It is stricter than ``is_norm``: recipes fill what they find by it."""
    return bool(_NORM_NAME.search(type(module).__name__))


def has_centred_norm_name(module: nn.Module) -> bool:
    """Whether a class is named like one of transformers' norms that multiply by 1 + weight."""
    return bool(_CENTRED_NORM_NAME.search(type(module).__name__))


def weight_layout(module: nn.Module) -> tuple[int, bool]:
    """The number of groups of a layer's weight, and whether its dim 0 is the inputs'."""
    if isinstance(module, _ConvNd):
        return module.groups, isinstance(module, _ConvTransposeNd)
    return 1, is_conv1d(module)


def gates_of(cls: type) -> int:
    """How many gates a class of recurrent layers has. A weight of theirs holds a matrix for each."""
    base = nearest_base(cls, _GATES)
    return 1 if base is None else _GATES[base]


def nearest_base(kind: type, table: Mapping[type, Any]) -> type | None:
    """The class itself or the nearest of its bases that is in a table; None if none is."""
    return next((cls for cls in kind.__mro__ if cls in table), None)
