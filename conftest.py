"""Test settings shared by tests/ and the doctests of src/."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _short_numbers(doctest_namespace):
    """Print arrays to six digits in doctests."""
    with np.printoptions(precision=6, suppress=True):
        yield
