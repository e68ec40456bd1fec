"""Rewrites of a model from elsewhere: an ONNX graph that reads ids becomes a dense graph and embedding tables."""

from rankine.models.rewrite.errors import RewriteError
from rankine.models.rewrite.rewrite import Rewritten, check_equal, rewrite

__all__ = ["RewriteError", "Rewritten", "check_equal", "rewrite"]
