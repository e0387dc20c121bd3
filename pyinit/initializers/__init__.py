"""Initializers as values: what fills a parameter, with its arguments.

Each is a small frozen dataclass, registered by a name, that goes to a dictionary of plain values
and comes back from it. ``resolve`` says what it draws for a weight: blocks of rows, each filled by a
``Drawn`` initializer, which calls the function of ``pyinit.init`` of its name. All other initializers
are formulas that resolve to these.

A user's own initializer is a frozen dataclass derived from ``Initializer``, with ``resolve``, and
decorated by ``register``.

Example:
    >>> import torch, pyinit
    >>> from pyinit.initializers import KaimingNormal, Weight
    >>> he = KaimingNormal(nonlinearity="relu")
    >>> print(he, he.resolve(Weight((64, 32)))[0].drawn)
    kaiming_normal(nonlinearity=relu) normal(std=0.25)
"""

from pyinit._scale.gain import gain_of
from pyinit.initializers._base import (
    Block,
    Blocks,
    Drawn,
    Initializer,
    Weight,
    fill_by_torch_,
    from_dict,
    make,
    names,
    register,
)
from pyinit.initializers._composed import (
    Centred,
    Keep,
    OwnReset,
    Padded,
    Parts,
    can_be_centred,
)
from pyinit.initializers._drawn import (
    Constant,
    DeltaOrthogonal,
    Dirac,
    Eye,
    Hadamard,
    Normal,
    Orthogonal,
    Sparse,
    TruncNormal,
    Uniform,
)
from pyinit.initializers._scaled import (
    KaimingNormal,
    KaimingUniform,
    LecunNormal,
    LecunUniform,
    PriorBias,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)

from pyinit.initializers import keras_names  # noqa: F401, isort: skip  it makes Keras's names known

__all__ = [
    "KEEP",
    "ONES",
    "ZEROS",
    "Block",
    "Blocks",
    "Centred",
    "Constant",
    "DeltaOrthogonal",
    "Dirac",
    "Drawn",
    "Eye",
    "Hadamard",
    "Initializer",
    "KaimingNormal",
    "KaimingUniform",
    "Keep",
    "LecunNormal",
    "LecunUniform",
    "Normal",
    "Orthogonal",
    "OwnReset",
    "Padded",
    "Parts",
    "PriorBias",
    "Sparse",
    "TruncNormal",
    "Uniform",
    "VarianceScaling",
    "Weight",
    "XavierNormal",
    "XavierUniform",
    "can_be_centred",
    "fill_by_torch_",
    "from_dict",
    "gain_of",
    "make",
    "names",
    "register",
]

KEEP = Keep()
"""Leaves a parameter as it is."""
ZEROS = Constant(0.0)
"""Fills with zeros."""
ONES = Constant(1.0)
"""Fills with ones."""

# A class or function is pickled by the name that it has here.
for _name in {*__all__} - {"Blocks", "KEEP", "ONES", "ZEROS"}:
    globals()[_name].__module__ = __name__
