"""Recipes say which initializer fills which parameter of a model. A family of them has a file."""

# Importing a family registers its recipes.
from pyinit.whole_model.recipes import (
    auto,  # noqa: F401
    autoinit,  # noqa: F401
    mimetic,  # noqa: F401
    mup,  # noqa: F401
    plain,  # noqa: F401
    recurrent,  # noqa: F401
    residual,  # noqa: F401
    torch_defaults,  # noqa: F401
    transformers,  # noqa: F401
)
from pyinit.whole_model.recipes.registry import (
    Choice,
    Choices,
    Recipe,
    recipe,
    recipes,
    register_recipe,
)

__all__ = ["Choice", "Choices", "Recipe", "recipe", "recipes", "register_recipe"]
