"""Initialization from data: methods that measure what the layers of a model do with a batch."""

from pyinit.data_driven.lsuv import LsuvReport, lsuv_

__all__ = ["LsuvReport", "lsuv_"]
