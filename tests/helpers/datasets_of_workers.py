"""Datasets for workers of a DataLoader: a new process must be able to import them."""

import os

import torch
from torch.utils.data import Dataset, get_worker_info

import pyinit


class Draws(Dataset):
    """Items drawn in the worker, with the seed that the worker was given."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[int, int, torch.Tensor]:
        del index
        seed = get_worker_info().seed
        torch.manual_seed(seed)
        return os.getpid(), seed, pyinit.normal_(torch.empty(20000))
