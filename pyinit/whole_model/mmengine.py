"""The path by which ``from_init_cfg`` has been known from the first version on."""

from pyinit.whole_model.rules.mmengine import from_init_cfg

__all__ = ["from_init_cfg"]
