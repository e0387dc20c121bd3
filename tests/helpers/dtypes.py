"""The number formats that pyinit fills."""

import torch

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
