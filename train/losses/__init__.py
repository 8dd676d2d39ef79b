"""Losses, one idea a file. Each is a pure function of tensors and is tested against a naive loop."""
