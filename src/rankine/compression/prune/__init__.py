"""Structured pruning: whole channels, dimensions and features leave a graph, with all that depends on them."""

from rankine.compression.prune.apply import prune

__all__ = ["prune"]
