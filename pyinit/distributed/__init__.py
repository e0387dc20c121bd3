"""Weights beyond one process: checkpoints that are written shard by shard, and verified again."""
