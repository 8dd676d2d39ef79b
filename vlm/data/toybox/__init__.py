"""Toybox: a procedural world of moving shapes whose truth is known exactly. docs/toybox.md tells its rules."""
