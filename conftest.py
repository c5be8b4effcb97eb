"""Test settings shared by tests/ and the doctests of src/."""

import numpy as np
import pytest
from hypothesis import settings

# Compilation makes first examples slow; the same examples at every run keep the tests reproducible.
settings.register_profile("trainability", deadline=None, derandomize=True)
settings.load_profile("trainability")


@pytest.fixture(autouse=True)
def _short_numbers(doctest_namespace):
    """Print arrays to six digits in doctests."""
    with np.printoptions(precision=6, suppress=True):
        yield


@pytest.fixture
def settings_unchanged():
    """Fail where a figure changed matplotlib's global settings; close what is open."""
    import matplotlib.pyplot as plt

    before = dict(plt.rcParams)
    yield
    assert dict(plt.rcParams) == before
    plt.close("all")
