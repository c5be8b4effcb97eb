import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainability.maps import Map, cubic_map, gradient_descent, product_map
from trainability.restriction import restrict

SLICES = {vector: restrict(product_map(), [vector]) for vector in ((1, 1), (1, -1), (2, 2))}


@given(st.floats(0.1, 1.9), st.floats(-1.5, 1.5), st.sampled_from(list(SLICES)))
@settings(deadline=None)  # the first call compiles
def test_orbits_of_the_restriction_are_orbits_of_the_map(mu, y, vector):
    """Tolerance: a few roundings of numbers near 10."""
    small, full = SLICES[vector].with_parameters(mu=mu), product_map(mu)
    np.testing.assert_allclose(small([y])[0] * np.array(vector), full([x * y for x in vector]), atol=1e-13)


def test_balanced_slice_is_the_cubic_map():
    assert restrict(product_map(0.7), [[1, 1]])([0.3]) == pytest.approx(cubic_map(0.7)([0.3]), abs=1e-15)


def test_subspace_of_dimension_two():
    """The velocities of balanced weights stay balanced too."""
    descent = gradient_descent("(u*v - mu)**2 / 2", "u v", lr=1.0, momentum=0.3, mu=0.5)
    balanced = restrict(descent, [[1, 1, 0, 0], [0, 0, 1, 1]])
    np.testing.assert_allclose(balanced([0.4, 0.1])[[0, 0, 1, 1]], descent([0.4, 0.4, 0.1, 0.1]), atol=1e-15)


def test_a_pole_is_infinite_as_in_the_whole_map():
    whole = gradient_descent("1/x + y**2", "x y", lr=0.1)
    assert np.isinf(whole([0.0, 0.0])[0])
    assert np.isinf(restrict(whole, [[1, 0]])([0.0])[0])


@pytest.mark.parametrize(
    ("basis", "message"),
    [
        ([[1, 2]], "not invariant"),
        ([[1, 1, 1]], "vectors of length 2"),
        ([[1, 1], [2, 2]], "linearly independent"),
        ([[np.nan, 1]], "finite"),
    ],
)
def test_bad_basis(basis, message):
    with pytest.raises(ValueError, match=message):
        restrict(product_map(), basis)


def test_map_without_symbols():
    import math

    opaque = Map(
        lambda u, p: (math.tanh(u[0]), u[1]),
        lambda u, p: ((1 - math.tanh(u[0]) ** 2, 0.0), (0.0, 1.0)),
        variables=("x", "y"),
        parameters={},
    )
    with pytest.raises(ValueError, match="no symbolic form"):
        restrict(opaque, [[1, 0]])
