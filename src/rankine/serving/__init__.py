"""Stage 7: the server, its protocols, workers and client."""

from rankine.serving.config import ServeConfig

__all__ = ["ServeConfig", "serve"]


def __getattr__(name: str) -> object:
    """``serve`` is imported when it is asked for: configuring a server needs neither NumPy nor an engine."""
    if name == "serve":
        from rankine.serving.server import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
