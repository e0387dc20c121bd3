"""``from_init_cfg``: rules from the ``init_cfg`` dictionaries of mmengine's ``BaseModule``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinit._messages import near
from pyinit.initializers import Initializer, make
from pyinit.whole_model.rules.patterns import Glob, Matcher, matcher_from_data
from pyinit.whole_model.rules.rule import Rule, errors_in


def from_init_cfg(cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Rule]:
    """Make rules that say what an ``init_cfg`` of mmengine says, for the model that has it.

    Types and their defaults are those of mmengine: Constant, Xavier, Normal, TruncNormal, Uniform,
    Kaiming and Caffe2Xavier, also with "Init" after the name. ``layer`` names classes of modules,
    or their base classes. The ``weight`` of such modules gets the type's initializer, and their
    ``bias`` the constant ``bias`` (default 0) or the constant for ``bias_prob``; parameters of
    other names stay as they are. ``override`` does the same for all modules, of whatever class, in
    the model's attribute ``name``, with a type of its own or the type beside it. It wins over
    ``layer``, and a later dictionary wins over an earlier one; as the first rule wins, the rules
    come in the opposite order.

    Two things differ from mmengine: fans take account of groups and transposed convolutions, and a
    type that matches no weight at all is an error, as for every rule.

    Args:
        cfg: A dictionary, or a list of dictionaries.

    Returns:
        The rules, for ``initialize_(model, rules=...)``.

    Raises:
        TypeError: If it is neither a dictionary nor a list of dictionaries.
        ValueError: For an unknown type or argument, for a dictionary that names neither ``layer``
            nor ``override``, and for the type ``Pretrained``: use ``load_pretrained_``.

    Example:
        >>> from pyinit.whole_model.rules import from_init_cfg
        >>> for rule in from_init_cfg({"type": "Xavier", "layer": "Linear", "bias": 0.1}):
        ...     print(rule)
        Linear weight -> xavier_normal
        Linear bias -> constant(val=0.1)
    """
    cfgs = [cfg] if isinstance(cfg, Mapping) else cfg
    if not (isinstance(cfgs, (list, tuple)) and all(isinstance(one, Mapping) for one in cfgs)):
        raise TypeError(f"init_cfg must be a dictionary or a list of them, got {cfg!r}")
    found: list[Rule] = []
    for number, one in reversed([*enumerate(cfgs, 1)]):
        with errors_in(f"init_cfg {number}"):
            found += _rules(one)
    return found


def is_init_cfg(value: object) -> bool:
    """Whether a value is an ``init_cfg``, and not the dictionary of a rule."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("type"), str)
        and _type_name(value["type"]) in _KNOWN
        and not {"init", "name"} & value.keys()
    )


# For each type, the name of the initializer, which goes on with "_" and the distribution if the type
# has one, and the defaults that differ from the initializer's own.
_TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "Caffe2Xavier": ("kaiming_uniform", {"a": 1.0}),
    "Constant": ("constant", {}),
    "Kaiming": (
        "kaiming",
        {"distribution": "normal", "mode": "fan_out", "nonlinearity": "relu"},
    ),
    "Normal": ("normal", {}),
    "TruncNormal": ("trunc_normal", {}),
    "Uniform": ("uniform", {}),
    "Xavier": ("xavier", {"distribution": "normal"}),
}
_PRETRAINED = "Pretrained"
_KNOWN = dict.fromkeys((*_TYPES, _PRETRAINED))


def _type_name(value: str) -> str:
    return value.removesuffix("Init")


def _rules(cfg: Mapping[str, Any]) -> Iterator[Rule]:
    filling = dict(cfg)
    layer, overrides = filling.pop("layer", None), filling.pop("override", None) or []
    _known_type(filling.get("type"))
    if not layer and not overrides:
        raise ValueError(f"init_cfg names neither layer nor override, so it fills nothing: {cfg!r}")
    for override in reversed(overrides if isinstance(overrides, (list, tuple)) else [overrides]):
        yield from _of_override(override, filling)
    if layer:
        yield from _fill(matcher_from_data("type", layer, "layer"), filling)


def _of_override(override: Any, beside: Mapping[str, Any]) -> Iterator[Rule]:
    own = dict(override) if isinstance(override, Mapping) else {}
    name = own.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"override must be a dictionary with a name, got {override!r}")  # noqa: TRY004
    if own and "type" not in own:
        raise ValueError(f"override with arguments needs a type, got {override!r}")
    own.pop("layer", None)  # an override is for every class
    return _fill(Glob(f"{name}.*"), own or beside)


def _fill(match: Matcher, cfg: Mapping[str, Any]) -> Iterator[Rule]:
    weight = dict(cfg)
    kind, bias, prob = (weight.pop(key, None) for key in ("type", "bias", "bias_prob"))
    yield Rule(match, _of_type(kind, weight), parameter="weight")
    constant = make("constant", val=0.0 if bias is None else bias)
    biases = constant if prob is None else make("prior_bias", p=prob)
    # Layers without biases are nothing unusual.
    yield Rule(match, biases, optional=True, parameter="bias")


def _of_type(kind: object, arguments: Mapping[str, Any]) -> Initializer:
    name, defaults = _known_type(kind)
    arguments = {**defaults, **arguments}
    if "distribution" in defaults:
        name = f"{name}_{arguments.pop('distribution')}"
    return make(name, **arguments)


def _known_type(kind: object) -> tuple[str, dict[str, Any]]:
    name = _type_name(str(kind))
    if name == _PRETRAINED:
        raise ValueError("init_cfg of type 'Pretrained' loads a file: use load_pretrained_")
    if name not in _TYPES:
        raise ValueError(f"unknown type {kind!r} in init_cfg; {near(name, _TYPES)}")
    return _TYPES[name]
