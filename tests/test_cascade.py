import math

import mpmath
import numpy as np
import pytest

from trainability.cascade import period_doubling_cascade
from trainability.cycles import NotFound, find_cycle
from trainability.maps import Map, cubic_map, product_map
from trainability.restriction import restrict

# Feigenbaum's constants: Briggs, Math. Comp. 57, 435 (1991).
DELTA = "4.669201609102990671853203820466"
ALPHA = "-2.502907875095892822283902873218"


@pytest.fixture(scope="module")
def cubic():
    return period_doubling_cascade(cubic_map, "mu", (0.5, 1.32), start=[0.7])


def distance(found, exact):
    with mpmath.workdps(40):
        return float(abs(found - mpmath.mpf(exact)))


def test_flips_and_superstable_parameters(cubic):
    """Closed forms of the first ones, and the tenth of each to 22 digits (theory/02, by Krawczyk's test there)."""
    assert len(cubic.flips) == len(cubic.superstable) == 12
    with mpmath.workdps(40):
        closed = [mpmath.mpf(1), mpmath.sqrt(5) - 1], [3 / mpmath.sqrt(2) - 1]
    for found, exact in zip(
        [cubic.flips[0], cubic.flips[1], cubic.superstable[0]], [*closed[0], *closed[1]], strict=True
    ):
        assert distance(found, exact) < 1e-35
    assert distance(cubic.flips[9], "1.3022831677457122756246") < 1e-22
    assert distance(cubic.superstable[9], "1.3022832881185600388981") < 1e-22


def test_flips_by_another_route():
    """The sixteen-fold flip from the iterated map and numerical derivatives, without any of our recursions."""
    cascade = period_doubling_cascade(cubic_map, "mu", (0.5, 1.32), start=[0.7], n=5)
    with mpmath.workdps(40):

        def iterated(x, mu):
            for _ in range(16):
                x = x * (1 + mu - x * x)
            return x

        mu = cascade.flips[4]
        x = mpmath.sqrt((1 + mu) / 3)
        for _ in range(4000):  # towards the cycle, attracting at 2e-5 below its flip
            x = iterated(x, mu - mpmath.mpf("2e-5"))
        x = mpmath.findroot(lambda x: iterated(x, mu) - x, x)
        assert abs(mpmath.diff(lambda x: iterated(x, mu), x, h=mpmath.mpf("1e-12")) + 1) < 1e-15


def test_accumulation_point(cubic):
    """Known to 22 digits; the error that is stated is honest within a factor of three."""
    off = distance(cubic.accumulation.value, "1.3022834627007121607823")
    assert off < 1e-18
    assert off < 3 * float(cubic.accumulation.error)
    assert float(cubic.accumulation.error) < 1e-17


@pytest.mark.parametrize(("name", "exact", "digits"), [("delta", DELTA, 1e-11), ("alpha", ALPHA, 1e-8)])
def test_universal_constants(cubic, name, exact, digits):
    found = getattr(cubic, name)
    assert distance(found.value, exact) < min(digits, 3 * float(found.error))
    assert float(found.error) < digits


def test_logistic_map_has_the_same_constants():
    """Accumulation point: OEIS A098587."""
    logistic = Map(
        lambda u, p: (p[0] * u[0] * (1 - u[0]),),
        lambda u, p: ((p[0] * (1 - 2 * u[0]),),),
        variables=("x",),
        parameters={"r": 3.2},
        name="logistic map",
    )
    cascade = period_doubling_cascade(logistic, "r", (2.5, 3.58), start=[0.6])
    assert float(cascade.flips[1]) == pytest.approx(1 + math.sqrt(6), abs=1e-15)
    assert distance(cascade.accumulation.value, "3.569945671870944901842") < 1e-16
    assert distance(cascade.delta.value, DELTA) < 1e-9


def test_balanced_slice_is_the_cubic_family(cubic):
    balanced = period_doubling_cascade(restrict(product_map(), [[1, 1]]), "mu", (0.5, 1.32), start=[0.7], n=6)
    assert all(distance(a, b) < 1e-30 for a, b in zip(balanced.flips, cubic.flips, strict=False))


def test_cascade_of_the_window_of_period_three():
    start = find_cycle(cubic_map(1.4532), [0.904], period=3)
    cascade = period_doubling_cascade(cubic_map, "mu", (1.4505, 1.468), start=start, start_at=1.4532, n=9)
    assert cascade.period == 3
    assert float(cascade.flips[0]) == pytest.approx(1.4608286738785799, abs=1e-15)
    assert distance(cascade.delta.value, DELTA) < 3 * float(cascade.delta.error)


def test_other_parameters_keep_their_values():
    """a - x² with a shifted by c: the whole cascade shifts."""
    quadratic = Map(
        lambda u, p: (p[0] + p[1] - u[0] * u[0],),
        lambda u, p: ((-2 * u[0],),),
        variables=("x",),
        parameters={"a": 0.5, "c": 0.1},
    )
    cascade = period_doubling_cascade(quadratic, "a", (0.2, 1.35), start=[0.5], n=6)
    with mpmath.workdps(40):
        shift = mpmath.mpf(0.1)  # the float, exactly
        exact = mpmath.mpf("0.75") - shift, mpmath.mpf("1.25") - shift
    assert distance(cascade.flips[0], exact[0]) < 1e-30
    assert distance(cascade.flips[1], exact[1]) < 1e-30


def test_repr_leads_with_the_answer(cubic):
    assert "accumulating at 1.30228346270071216" in repr(cubic)
    assert repr(cubic.delta).startswith("4.66920160910")


def test_no_cascade_here():
    with pytest.raises(NotFound, match="no cascade of cubic map begins here: it doubles 1 times"):
        period_doubling_cascade(cubic_map, "mu", (0.3, 1.2), start=[0.5])


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        (product_map, {}, "2 variables"),
        (cubic_map, {"n": 3}, "n=3 must be at least 4"),
        (cubic_map, {"n": 30, "digits": 40}, "digits=40 is too few"),
        (cubic_map, {"parameter": "eta"}, "eta"),
    ],
)
def test_bad_input(family, changes, message):
    arguments = {"parameter": "mu", "interval": (0.5, 1.32), "start": [0.7] * family().d} | changes
    with pytest.raises(ValueError, match=message):
        period_doubling_cascade(family, **arguments)


def test_map_without_symbols():
    opaque = Map(
        lambda u, p: (p[0] * math.tanh(u[0]),),
        lambda u, p: ((p[0] * (1 - math.tanh(u[0]) ** 2),),),
        variables=("x",),
        parameters={"q": 1.5},
    )
    with pytest.raises(ValueError, match="no symbolic form"):
        period_doubling_cascade(opaque, "q", (0.5, 3), start=np.array([0.1]))
