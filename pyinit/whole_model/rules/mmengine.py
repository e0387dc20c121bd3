"""Rules from the ``init_cfg`` dictionaries of mmengine's ``BaseModule``."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinit._messages import near
from pyinit.initializers import Initializer, make
from pyinit.whole_model.rules.patterns import Glob, Matcher, matcher_from_data
from pyinit.whole_model.rules.rule import Rule, errors_in


def from_init_cfg(cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Rule]:
    """The rules that say what an ``init_cfg`` says, for the model that has it.

    Types and their defaults are mmengine's: Constant, Xavier, Normal, TruncNormal, Uniform, Kaiming,
    Caffe2Xavier, also with "Init" after it. ``layer`` names classes of modules, or bases of
    theirs. ``weight`` of such modules gets the type's initializer, ``bias`` the constant ``bias`` (0) or
    the one for ``bias_prob``; what has another name stays. ``override`` does the same for all modules
    in the attribute ``name`` of the model, of whatever class, with a type of its own or that
    beside it. It goes over ``layer``, and a later dictionary over an earlier one: as the first
    rule wins, rules come in the opposite order.

    Two things are not mmengine's: fans count groups and transposed convolutions, and what matches no
    weight at all is an error, as it is for every rule.

    Raises:
        TypeError: if it is neither a dictionary nor a list of them.
        ValueError: for an unknown type or argument; for a dictionary that names neither ``layer`` nor
            ``override``; for ``Pretrained``, which is ``load_pretrained_``'s.
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
    """Whether it is such a dictionary, and not that of a rule."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("type"), str)
        and _type_name(value["type"]) in _KNOWN
        and not {"init", "name"} & value.keys()
    )


# What each type is here: the initializer, with "_" and the distribution after it if it has one, and
# the defaults that are not the initializer's own.
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
