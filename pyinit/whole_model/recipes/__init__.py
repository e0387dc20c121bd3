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
