"""Weights from checkpoints: ``load_pretrained_``."""
