"""The examples in docstrings run, and print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["pruning", "distillation", "entropy"])
def test_a_modules_examples(module):
    result = doctest.testmod(importlib.import_module(f"dsdlib.{module}"))
    assert result.attempted > 0 and result.failed == 0
