"""The former name of :mod:`rankine.serving.process`, until the application has its new one."""

from rankine.serving.process import ServerProcess as Group

__all__ = ["Group"]
