"""Initialization from data: methods that measure what the layers of a model do with a batch."""

from pyinit.data_driven import distances
from pyinit.data_driven.autoinit import AutoInitReport, autoinit_
from pyinit.data_driven.consistency import ConsistencyReport, consistency_aware_
from pyinit.data_driven.data_dependent import DataDependentReport, data_dependent_
from pyinit.data_driven.gradinit import GradInitReport, gradinit_
from pyinit.data_driven.lsuv import LsuvReport, lsuv_
from pyinit.data_driven.metainit import MetaInitReport, metainit_
from pyinit.data_driven.search import SearchReport, search_recipe
from pyinit.data_driven.unsupervised import UnsupervisedReport, pretrain_unsupervised_
from pyinit.data_driven.weight_norm import WeightNormReport, weight_norm_init_
from pyinit.data_driven.whitening import WhiteningReport, whitening_

__all__ = [
    "AutoInitReport",
    "ConsistencyReport",
    "DataDependentReport",
    "GradInitReport",
    "LsuvReport",
    "MetaInitReport",
    "SearchReport",
    "UnsupervisedReport",
    "WeightNormReport",
    "WhiteningReport",
    "autoinit_",
    "consistency_aware_",
    "data_dependent_",
    "distances",
    "gradinit_",
    "lsuv_",
    "metainit_",
    "pretrain_unsupervised_",
    "search_recipe",
    "weight_norm_init_",
    "whitening_",
]
