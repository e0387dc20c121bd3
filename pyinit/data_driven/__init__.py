"""Initialization from data: methods that measure what the layers of a model do with a batch."""

from pyinit.data_driven import distances
from pyinit.data_driven.consistency import ConsistencyReport, consistency_aware_
from pyinit.data_driven.lsuv import LsuvReport, lsuv_

__all__ = ["ConsistencyReport", "LsuvReport", "consistency_aware_", "distances", "lsuv_"]
