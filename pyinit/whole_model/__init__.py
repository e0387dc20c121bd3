"""Whole models: recipes, rules, reports, pretrained weights."""
