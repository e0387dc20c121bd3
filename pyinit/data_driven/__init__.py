"""Initialization from data: methods that measure what the layers of a model do with a batch."""

from pyinit.data_driven import distances
from pyinit.data_driven.consistency import ConsistencyReport, consistency_aware_
from pyinit.data_driven.gradinit import GradInitReport, gradinit_
from pyinit.data_driven.lsuv import LsuvReport, lsuv_
from pyinit.data_driven.metainit import MetaInitReport, metainit_
from pyinit.data_driven.search import SearchReport, search_recipe

__all__ = [
    "ConsistencyReport",
    "GradInitReport",
    "LsuvReport",
    "MetaInitReport",
    "SearchReport",
    "consistency_aware_",
    "distances",
    "gradinit_",
    "lsuv_",
    "metainit_",
    "search_recipe",
]
