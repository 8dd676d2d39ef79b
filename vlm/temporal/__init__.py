"""Queries about time: their grammar (docs/temporal.md), their syntax tree, and what they mean on interval sets."""
