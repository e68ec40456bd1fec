"""Triton-lang."""
from __future__ import annotations
