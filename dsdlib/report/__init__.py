"""Notebooks and a profile of parameters in, a folder of static HTML out: ``python -m dsdlib.report quick``."""
