"""The files that describe a model of transformers beside its weights."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from pyinit._torch.placement import loaded
from pyinit._torch.views import dtype_name


def configs_of(model: nn.Module) -> dict[str, bytes]:
    """The contents of ``config.json``, and of ``generation_config.json`` if the model generates, by name.

    Empty for a model that is none of transformers.
    """
    cls = loaded("transformers.modeling_utils", "PreTrainedModel")
    if cls is None or not isinstance(model, cls):
        return {}
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = dtype_name(model.dtype)
    with TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        if model.can_generate() and model.generation_config is not None:
            model.generation_config.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
