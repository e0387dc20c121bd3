"""Studies: models trained from several initializations, and what came of it."""

from pyinit.studies.result import StudyResult
from pyinit.studies.study import Claim, Study, Training

__all__ = ["Claim", "Study", "StudyResult", "Training"]
