"""The path under which ``from_init_cfg`` has been imported since the first version."""

from pyinit.whole_model.rules.mmengine import from_init_cfg

__all__ = ["from_init_cfg"]
