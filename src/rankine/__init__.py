"""Rankine turns a trained ranking model into a certified, elastic, low-latency ranking service.

One public verb a stage: ``load -> compress -> compile -> certify -> plan -> serve``. Each verb lives in its stage's
package and is imported from there, so that importing ``rankine`` itself imports nothing heavy.
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("rankine")
