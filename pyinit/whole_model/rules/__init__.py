"""Rules: which parameters get which initializer, in Python, in files and as mmengine writes it."""

from pyinit.whole_model.rules.mmengine import from_init_cfg
from pyinit.whole_model.rules.patterns import matcher
from pyinit.whole_model.rules.rule import Rule
from pyinit.whole_model.rules.rules import Rules, as_rules, load_recipe

__all__ = ["Rule", "Rules", "as_rules", "from_init_cfg", "load_recipe", "matcher"]
