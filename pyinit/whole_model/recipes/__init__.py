"""Recipes: which initializer fills which parameter of a model. One family a file."""

from pyinit.whole_model.recipes import auto as _auto  # noqa: F401  registers it
from pyinit.whole_model.recipes.registry import (
    Choice,
    Choices,
    Recipe,
    recipe,
    recipes,
    register_recipe,
)

__all__ = ["Choice", "Choices", "Recipe", "recipe", "recipes", "register_recipe"]

from pyinit.whole_model.recipes import mimetic as mimetic
from pyinit.whole_model.recipes import mup as mup
from pyinit.whole_model.recipes import plain as plain
from pyinit.whole_model.recipes import recurrent as recurrent
from pyinit.whole_model.recipes import residual as residual
from pyinit.whole_model.recipes import torch_defaults as torch_defaults
from pyinit.whole_model.recipes import transformers as transformers
