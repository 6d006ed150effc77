"""Runs as Python code that sweeps them."""

from __future__ import annotations

from dsdlib.config import RunConfig


def as_code(configs: list[RunConfig]) -> str:
    """A program that sweeps runs which differ only in their seed, and in the seeds of their teachers and starts."""
    seeds = tuple(config.seed for config in configs)
    run = _call(configs[0], configs[0].seed)
    return f"from dsdlib import RunConfig, sweep\n\nruns = [{run} for seed in {seeds}]\ntable = sweep(runs)\n"


def _call(config: RunConfig, seed: int) -> str:
    """A configuration as a call. Where its seed is ``seed`` it is written as the variable."""
    fields = {name: repr(value) for name, value in config if name in config.model_fields_set}
    fields = {name: text for name, text in fields.items() if getattr(config, name) != _default(name)}
    fields |= {role: _call(source, seed) for role, source in config.sources().items()}
    fields.pop("seed", None)
    fields["seed"] = "seed" if config.seed == seed else repr(config.seed)
    return f"RunConfig({', '.join(f'{name}={text}' for name, text in fields.items())})"


def _default(name: str) -> object:
    return RunConfig.model_fields[name].default
