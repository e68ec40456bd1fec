"""Load: an honest generator, its record, and the search for the highest rate that a server sustains."""

from rankine.observation.load.config import LoadConfig, SweepConfig
from rankine.observation.load.measure import run_load
from rankine.observation.load.record import LoadResult
from rankine.observation.load.sweep import SweepResult, sweep

__all__ = ["LoadConfig", "LoadResult", "SweepConfig", "SweepResult", "run_load", "sweep"]
