"""What tests expect of the versions of torch."""

import pytest
import torch

VERSION = tuple(map(int, torch.__version__.split(".")[:2]))

# docs/torch.md tells which draws pyinit then leaves to torch.
as_in_2_13 = pytest.mark.skipif(
    VERSION < (2, 13), reason="older versions of torch do this otherwise"
)
