"""Initialization from data: methods that measure what the layers of a model do with a batch."""

from pyinit.data_driven.autoinit import AutoInitReport, autoinit_
from pyinit.data_driven.gradinit import GradInitReport, gradinit_
from pyinit.data_driven.lsuv import LsuvReport, lsuv_
from pyinit.data_driven.metainit import MetaInitReport, metainit_

__all__ = [
    "AutoInitReport",
    "GradInitReport",
    "LsuvReport",
    "MetaInitReport",
    "autoinit_",
    "gradinit_",
    "lsuv_",
    "metainit_",
]
