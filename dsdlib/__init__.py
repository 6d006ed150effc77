"""dsdlib: what the notebooks of the sparse double descent study call."""

from dsdlib.config import ConfigError, RunConfig, check_parameters
from dsdlib.sweep import load_history, load_masks, load_model, sweep

__all__ = ["ConfigError", "RunConfig", "check_parameters", "load_history", "load_masks", "load_model", "sweep"]
