"""What parameters start at whose values only their own module knows.

A state-space matrix, a time decay or a temperature is no weight, whatever its shape. Recipes leave
such parameters, and all that they do not know, to the model's own code.
"""

import inspect
import math
import re
from typing import TypeGuard

from pyinit.initializers import ONES, ZEROS, Constant, OwnReset, TruncNormal
from pyinit.whole_model.network import Network, Site
from pyinit.whole_model.recipes.constructors import constructed
from pyinit.whole_model.recipes.registry import Choice

_OF_ITS_OWN = re.compile(
    r"(?:.*\.)?(?:"
    r"A_logs?|dt_bias|dt_proj\.bias|dt_projs_bias"  # state spaces
    r"|time_(?:decay|first|faaaa|mix_\w+|maa_\w+)"  # time decays
    r"|logit_(?:scale|bias)|temperature"  # temperatures
    r"|inv_freqs?|freqs(?:_cis)?"  # rotary positions
    r")"
)

_OWN = OwnReset()

# What the reason of a parameter begins with that would keep its values if it had any.
WITHOUT_VALUES = "without values: "


def keeps_its_own(site: Site) -> bool:
    """Whether a parameter has values of its own, whatever recipes give to others of its shape.

    It is known by its name, or by the mark that state-space models put on it.
    """
    return bool(_OF_ITS_OWN.fullmatch(site.name)) or getattr(site.tensor, "_no_reinit", False)


def own_start(site: Site, network: Network) -> Choice | None:
    """What the model's own code starts a parameter with; None where that is not known.

    A parameter that nothing of the model's own resets keeps its values. If it has none, because it is
    on the meta device, it gets what its module's constructor says, or what parameters of its name
    start at.
    """
    reset = network.own_resets.of(site.path, site.leaf)
    if reset is not None:
        return Choice(_OWN, reset.words)
    if not site.tensor.is_meta:
        return None
    found = _by_constructor(site, network) or _by_name(site)
    return found and found._replace(why=WITHOUT_VALUES + found.why)


def _by_constructor(site: Site, network: Network) -> Choice | None:
    path, around = site.path, []
    while path:
        path = path.rpartition(".")[0]
        around.append(network.modules[path])
    found = constructed(site.module, site.leaf, around)
    if found is None:
        return None
    why = f"as the constructor of {type(site.module).__name__} has it"
    if found.assumed:
        why += f", with its default of {' and '.join(found.assumed)}"
    return Choice(found.initializer, why)


# ---- Names -------------------------------------------------------------------------------------------

_LAYER_SCALE = re.compile(r"layer_?scale\w*|gamma(?:_?\d|_xca)?|lambda\d|ls_?\d")
_ITS_ARGUMENTS = (
    "layer_scale",
    "layer_scale_init_value",
    "layerscale_value",
    "ls_init_value",
    "init_values",
    "eta",
)

_NAMES = (
    (_LAYER_SCALE, Constant(1e-6), "layer scale"),
    (
        re.compile(
            r"(?:\w+_)?(?:tokens?|pos|positions?|emb(?:ed(?:ding)?s?)?|latents?)\d?"
            r"|(?:rel_)?pos(?:ition)?_\w+|relative_position_bias_table"
        ),
        TruncNormal(std=0.02),
        "learned token or position",
    ),
    (re.compile(r"attention_bias(?:es)?|(?!dt_|logit_)\w+_bias"), ZEROS, "bias"),
    (re.compile(r"temperature"), ONES, "temperature"),
    (re.compile(r"skipinit_gain"), ZEROS, "gain of a residual branch"),
)


def _by_name(site: Site) -> Choice | None:
    """What a parameter without values starts at, by its name and its module's constructor."""
    if site.leaf == "logit_scale":
        return _logit_scale(site)
    for pattern, initializer, words in _NAMES:
        if not pattern.fullmatch(site.leaf):
            continue
        given = _argument(site, *_ITS_ARGUMENTS) if pattern is _LAYER_SCALE else None
        if given is not None:
            return Choice(Constant(given[1]), f"{words}, {given[0]}")
        return Choice(initializer, f"{words}, by its name")
    return None


def _logit_scale(site: Site) -> Choice:
    """The temperature that the model is configured with, or 0.07, as in CLIP.

    One for each head is 0.1, as in Swin v2.
    """
    given = _argument(site, "logit_scale_init_value")
    if given is not None:
        return Choice(Constant(given[1]), f"temperature, {given[0]}")
    temperature, whose = (0.07, "CLIP") if math.prod(site.shape) == 1 else (0.1, "Swin v2")
    return Choice(Constant(-math.log(temperature)), f"temperature as in {whose}, by its name")


def _argument(site: Site, *names: str) -> tuple[str, float] | None:
    """A number that a module or its config holds by one of these names, or its class takes by default.

    With it comes whose it is.
    """
    holders = site.module, getattr(site.module, "config", None)
    defaults = inspect.signature(type(site.module)).parameters
    for name in names:
        for holder in holders:
            value = getattr(holder, name, None)
            if _is_number(value):
                return f"its module's {name}", float(value)
        default = defaults[name].default if name in defaults else None
        if _is_number(default):
            return f"its class's default of {name}", float(default)
    return None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
