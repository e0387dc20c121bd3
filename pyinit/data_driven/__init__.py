"""Initialization from data: methods that measure what the layers of a model do with a batch."""

from pyinit.data_driven.gradinit import GradInitReport, gradinit_
from pyinit.data_driven.lsuv import LsuvReport, lsuv_

__all__ = ["GradInitReport", "LsuvReport", "gradinit_", "lsuv_"]
