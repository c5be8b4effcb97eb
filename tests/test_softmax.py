import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainability.softmax import (
    annealed_overlap,
    one_row_moments,
    overlap_rows,
    overlap_table,
    softmax_overlap,
)

# Overlap and slope from the same integrals with half the steps, checked against sampling.
REFERENCE = [
    (1.0, 1.0, 16, 0.132452217220, 0.093508037758),
    (1.0, 0.5, 16, 0.092110397860, 0.069026847617),
    (3.0, 0.3, 64, 0.046786964750, 0.151514391583),
    (0.5, 0.9, 256, 0.004884366212, 0.001211786423),
    (8.0, 0.5, 64, 0.123754133608, 0.411941444322),
]


def sample_overlaps(beta, r, n, m, seed=0):
    """Overlaps and squared participation of m pairs of rows, by brute force."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((2, m, n))
    z[1] = r * z[0] + np.sqrt(1 - r**2) * z[1]
    w = np.exp(beta * (z - z.max(-1, keepdims=True)))
    w /= w.sum(-1, keepdims=True)
    return (w[0] * w[1]).sum(-1), (w[0] ** 2).sum(-1) ** 2


@pytest.mark.parametrize(("beta", "r", "n", "overlap", "slope"), REFERENCE)
def test_reference_values(beta, r, n, overlap, slope):
    np.testing.assert_allclose(softmax_overlap(beta, r, n), (overlap, slope), atol=1e-12)


@pytest.mark.parametrize(
    ("beta", "r", "n"), [(0.7, 1.0, 8), (2.0, 0.4, 16), (6.0, 0.8, 32), (3.0, -0.6, 8), (1.0, 0.05, 64)]
)
def test_overlap_against_sampling(beta, r, n):
    found, square = sample_overlaps(beta, r, n, 40_000)
    overlap, _ = softmax_overlap(beta, r, n)
    assert abs(found.mean() - overlap) < 4 * found.std() / np.sqrt(len(found))
    assert abs(square.mean() - one_row_moments(beta, n)[2]) < 4 * square.std() / np.sqrt(len(square))


@given(beta=st.floats(0.05, 6.0), r=st.floats(-0.9, 0.98), n=st.integers(2, 300))
@settings(max_examples=30, deadline=None)
def test_slope_is_the_derivative_in_r(beta, r, n):
    h = 1e-4
    (up, _), (down, _) = (softmax_overlap(beta, r + s * h, n) for s in (1, -1))
    slope = softmax_overlap(beta, r, n)[1]
    # Central differences: h² times the third derivative, which stays below 1e3 here, and rounding 1e-12 / h.
    assert (up - down) / (2 * h) == pytest.approx(slope, rel=1e-4, abs=2e-8)


@given(beta=st.floats(0.05, 8.0), n=st.integers(2, 300), r=st.floats(0.0, 1.0))
@settings(max_examples=30, deadline=None)
def test_bounds_and_values_at_no_correlation(beta, n, r):
    own, _ = softmax_overlap(beta, 1.0, n)
    at_zero, slope_at_zero = softmax_overlap(beta, 0.0, n)
    assert at_zero == pytest.approx(1 / n, rel=1e-11)
    assert slope_at_zero == pytest.approx(beta**2 * (1 - own) ** 2 / (n - 1), rel=1e-9)
    overlap, slope = softmax_overlap(beta, r, n)
    tiny = 1e-11
    assert 1 / n - tiny <= overlap <= 1 / n + r * (own - 1 / n) + tiny  # increasing and convex in r
    assert slope >= 0


def test_overlap_is_continuous_as_rows_become_equal():
    """The two-row and the one-row integral, different formulas, meet at r = 1."""
    for beta in (0.4, 2.0, 6.0):
        near, exact = softmax_overlap(beta, 1 - 1e-7, 32), softmax_overlap(beta, 1.0, 32)
        assert near[0] == pytest.approx(exact[0] - 1e-7 * exact[1], rel=1e-11)
        assert near[1] == pytest.approx(exact[1], rel=1e-5)


@pytest.mark.parametrize("n", [4, 64])
def test_weak_logits(n):
    """S = (1 + r β² (1 - 1/n)) / n + O(β⁴)."""
    beta, r = 0.01, 0.6
    expected = (1 + r * beta**2 * (1 - 1 / n)) / n
    assert softmax_overlap(beta, r, n)[0] == pytest.approx(expected, rel=10 * beta**4)


def test_hard_attention():
    """β → ∞: the overlap of a row with itself tends to 1 like 1 - O(1/β)."""
    deficits = [1 - softmax_overlap(beta, 1.0, 16)[0] for beta in (7.0, 14.0, 28.0)]
    assert deficits[0] / deficits[1] == pytest.approx(2, rel=0.1)
    assert deficits[1] / deficits[2] == pytest.approx(2, rel=0.03)


def test_annealed_overlap_fails_where_it_is_said_to():
    """Right as n → ∞ at fixed β; wrong by +189 % at β = 2, n = 64."""
    errors = [annealed_overlap(1.0, 1.0, n)[0] / softmax_overlap(1.0, 1.0, n)[0] - 1 for n in (64, 1024)]
    np.testing.assert_allclose(errors, [0.066, 0.006], atol=6e-4)
    assert annealed_overlap(2.0, 1.0, 64)[0] / softmax_overlap(2.0, 1.0, 64)[0] == pytest.approx(
        2.89, abs=0.01
    )
    h = 1e-5
    slope = (annealed_overlap(1.2, 0.5 + h, 8)[0] - annealed_overlap(1.2, 0.5 - h, 8)[0]) / (2 * h)
    assert annealed_overlap(1.2, 0.5, 8)[1] == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize(("sigma", "n"), [(1.0, 16), (4.0, 32)])
def test_table_agrees_with_integrals(sigma, n):
    epsilon = np.array([0.001, 0.27, 0.8, 1.0])
    found = overlap_table(sigma, n)(epsilon)
    for i, e in enumerate(epsilon):
        exact = (*softmax_overlap(sigma * e**0.5, 1.0, n), *softmax_overlap(sigma * e**0.5, 1 - e, n))
        np.testing.assert_allclose([f[i] for f in found[:4]], exact, atol=1e-11)
        assert found[4][i] == pytest.approx(exact[0] - exact[2], abs=1e-11)


def test_difference_near_collapse():
    """S(β, 1) - S(β, 1 - ε) → σ² ε² (1 - 1/n) / n."""
    *_, difference = overlap_table(2.0, 8)(1e-9)
    assert difference == pytest.approx(
        4 * 1e-18 * (1 - 1 / 8) / 8, rel=1e-4
    )  # 48 nodes resolve the slope to 1e-12


def test_rows_for_many_sigma_are_interpolated_accurately():
    sigma, t = np.linspace(0.5, 3.0, 30), np.array([0.2, 0.6, 1.0])
    rows, index = overlap_rows(sigma[:, None], np.array([8]), t)
    assert rows.shape == (30, 3, 5)
    assert index.shape == (30, 1)
    exact = np.stack(overlap_table(float(sigma[17]), 8)(t**2), axis=1)
    np.testing.assert_allclose(rows[index[17, 0]], exact, atol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 0.5, 8), "beta=-1.0"),
        ((1.0, 1.5, 8), "r=1.5"),
        ((1.0, 0.5, 1), "n=1"),
        ((99.0, 0.5, 8), "one-hot"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        softmax_overlap(*arguments)
