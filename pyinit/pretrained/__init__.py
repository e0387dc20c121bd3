"""Weights from checkpoints, put into models."""
