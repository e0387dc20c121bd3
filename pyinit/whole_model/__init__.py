"""Whole models: which initializer each parameter gets, by recipes and rules, and how all are filled."""
