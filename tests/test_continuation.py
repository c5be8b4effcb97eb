import math
import sys
from pathlib import Path

import numpy as np
import pytest

from trainability.continuation import NotIsolated, bifurcation_diagram
from trainability.curves import bifurcation_curve
from trainability.cycles import NotFound, find_cycle, find_cycles
from trainability.maps import Map, cubic_map, gradient_descent, product_map
from trainability.restriction import restrict

sys.path.insert(0, str(Path(__file__).parent))
from test_cycles import henon

# What the refinement promises: a few ulp of a parameter near 1, times its sensitivity.
EXACT = 1e-12


def delayed_logistic(r=1.5):
    return Map(
        lambda u, p: (p[0] * u[0] * (1 - u[1]), u[0]),
        lambda u, p: ((p[0] * (1 - u[1]), -p[0] * u[0]), (1.0, 0.0)),
        variables=("x", "y"),
        parameters={"r": r},
        name="delayed logistic map",
    )


def one_variable(step, slope, **parameters):
    return Map(step, slope, variables=("x",), parameters=parameters)


def kinds(diagram):
    return sorted((point.kind, point.period) for point in diagram.points)


@pytest.mark.parametrize("family", [cubic_map, restrict(product_map(), [[1, 1]])], ids=["cubic", "slice"])
def test_first_flips_of_the_balanced_slice(family):
    diagram = bifurcation_diagram(family, "mu", (0.2, 1.25), start=[0.5], max_period=4)
    flips = diagram.parameters("flip")
    np.testing.assert_allclose(flips, [1, math.sqrt(5) - 1], atol=EXACT, rtol=0)
    assert [branch.period for branch in diagram.branches] == [1, 2, 4]


def test_branches_solve_their_equations_and_carry_exact_multipliers():
    """x² = mu with multiplier 1 - 2mu; xy = 1, x² + y² = 1 + mu with multiplier 9 - 2(1 + mu)²."""
    fixed, two, _ = bifurcation_diagram(cubic_map, "mu", (0.2, 1.25), start=[0.5], max_period=4).branches
    np.testing.assert_allclose(fixed.states[:, 0, 0] ** 2, fixed.parameter, atol=1e-13)
    np.testing.assert_allclose(fixed.multipliers[:, 0], 1 - 2 * fixed.parameter, atol=1e-12)
    assert fixed.parameter.min() == 0.2
    assert fixed.parameter.max() == 1.25
    x, y = two.states[:, :, 0].T
    np.testing.assert_allclose(x * y, 1, atol=1e-12)
    np.testing.assert_allclose(x**2 + y**2, 1 + two.parameter, atol=1e-12)
    np.testing.assert_allclose(two.multipliers[:, 0], 9 - 2 * (1 + two.parameter) ** 2, atol=1e-11)


def test_stability_changes_at_bifurcations_only():
    """Solid and dashed lines meet there: the bifurcation stands in the arrays once with each."""
    diagram = bifurcation_diagram(cubic_map, "mu", (0.2, 1.25), start=[0.5], max_period=2)
    fixed = diagram.branches[0]
    at = np.flatnonzero(np.abs(fixed.parameter - 1) < 1e-9)
    assert len(at) == 2
    np.testing.assert_array_equal(
        fixed.stable, fixed.parameter < 1 + 1e-9 * (np.arange(len(fixed.stable)) == at[0])
    )


def test_cascade_follows_itself():
    """Flips 1 to 10, against their values to 25 digits (theory/02; recomputed by `period_doubling_cascade`)."""
    exact = [
        1.0000000000000000000,
        1.2360679774997896964,
        1.2880317544828427619,
        1.2992279396502040941,
        1.3016289140370811951,
        1.3021432715814581229,
        1.3022534377421285651,
        1.3022770322596416703,
        1.3022820854964934990,
        1.3022831677457122756,
    ]
    diagram = bifurcation_diagram(cubic_map, "mu", (0.5, 1.31), start=[0.7], max_period=512)
    np.testing.assert_allclose(diagram.parameters("flip"), exact, atol=EXACT, rtol=0)
    assert [branch.period for branch in diagram.branches] == [2**k for k in range(10)]
    assert diagram.unfollowed == 1  # the flip to period 1024


def test_pitchfork_at_the_origin():
    """At mu = 0 the origin gives way to ±√mu; both halves flip at 1."""
    diagram = bifurcation_diagram(cubic_map, "mu", (-0.5, 1.1), start=[0.0], max_period=1)
    assert kinds(diagram) == [("branch point", 1), ("flip", 1), ("flip", 1)]
    assert abs(diagram.parameters("branch point")[0]) < EXACT
    np.testing.assert_allclose(diagram.parameters("flip"), [1, 1], atol=EXACT, rtol=0)
    crossing = diagram.branches[1]
    assert crossing.origin == 0
    assert crossing.states.min() < -1 < 1 < crossing.states.max()
    np.testing.assert_allclose(crossing.states[:, 0, 0] ** 2, crossing.parameter, atol=1e-12)


def test_window_of_period_three_opens_in_a_fold():
    """Root of 4r⁸ + 16r⁷ - 35r⁶ - 206r⁵ - 113r⁴ + 376r³ + 715r² + 1690r + 2197, r = 1 + mu (theory/02)."""
    roots = np.roots([4, 16, -35, -206, -113, 376, 715, 1690, 2197])
    opens = [r.real - 1 for r in roots if abs(r.imag) < 1e-9 and 1.4 < r.real - 1 < 1.5]
    start = find_cycle(cubic_map(1.4532), [0.904], period=3)
    diagram = bifurcation_diagram(cubic_map, "mu", (1.44, 1.48), start=start, start_at=1.4532, max_period=3)
    fold = diagram.parameters("fold")
    assert len(fold) == 1
    assert fold[0] == pytest.approx(1.45044096448787517, abs=EXACT)
    assert fold[0] == pytest.approx(opens[0], abs=1e-10)  # roots of a polynomial of degree 8 lose digits
    assert diagram.parameters("flip")[0] == pytest.approx(1.4608286738785799, abs=EXACT)
    assert diagram.branches[0].ends == ("end of the interval",) * 2  # stable and unstable cycle, one curve


def test_fold_of_the_logistic_map():
    """Its period-3 window opens at 1 + √8."""
    logistic = one_variable(
        lambda u, p: (p[0] * u[0] * (1 - u[0]),), lambda u, p: ((p[0] * (1 - 2 * u[0]),),), r=3.84
    )
    start = find_cycle(logistic, [0.5], period=3)
    diagram = bifurcation_diagram(logistic, "r", (3.8, 3.9), start=start, start_at=3.84, max_period=3)
    assert diagram.parameters("fold")[0] == pytest.approx(1 + math.sqrt(8), abs=EXACT)


def test_henon():
    """Fold -(1-b)²/4, flips 3(1-b)²/4 and (1-b)² + (1+b)²/4.

    The further flips: Derrida, Gervois and Pomeau, J. Phys. A 12, 269 (1979), to ten digits, perhaps cut.
    """
    diagram = bifurcation_diagram(
        henon(), "a", (-0.2, 1.06), start=[0.7, 0.2], start_at=0.2, max_period=32, escape=5
    )
    b = 0.3
    assert diagram.parameters("fold") == pytest.approx([-((1 - b) ** 2) / 4], abs=EXACT)
    flips = diagram.parameters("flip")
    exact = [3 * (1 - b) ** 2 / 4, (1 - b) ** 2 + (1 + b) ** 2 / 4]
    np.testing.assert_allclose(flips[:2], exact, atol=EXACT, rtol=0)
    np.testing.assert_allclose(
        flips[2:], [1.0258554050, 1.0511256620, 1.0565637582, 1.0577308396], atol=1e-10, rtol=0
    )
    assert "escapes" in diagram.branches[0].ends


def test_neimark_sacker_point_of_the_delayed_logistic_map():
    """At r = 2 with multipliers exp(±iπ/3); the fixed point itself branches off the origin at r = 1."""
    diagram = bifurcation_diagram(delayed_logistic(), "r", (0.5, 2.2), start=[0.0, 0.0])
    assert kinds(diagram) == [("Neimark–Sacker", 1), ("branch point", 1)]
    torus = next(point for point in diagram.points if point.kind == "Neimark–Sacker")
    assert torus.parameter == pytest.approx(2, abs=EXACT)
    assert torus.angle == pytest.approx(math.pi / 3, abs=1e-12)
    assert diagram.parameters("branch point")[0] == pytest.approx(1, abs=EXACT)
    branch = diagram.branches[1]
    np.testing.assert_allclose(branch.states[:, 0, 0], 1 - 1 / branch.parameter, atol=1e-12)


def test_momentum_turns_a_minimum_into_a_circle_at_one():
    """At a minimum of curvature h the multipliers have product m and sum 1 + m - lr h.

    So lr h = 2 (1 + m) is a flip and m = 1 a Neimark–Sacker point.
    """
    lr = 0.5  # and h = 1
    descent = gradient_descent("(u**2 - 1)**2 / 8", "u", lr=lr, momentum=0.5)
    diagram = bifurcation_diagram(descent, "momentum", (-0.9, 1.2), start=[1, 0], start_at=0.5)
    assert kinds(diagram) == [("Neimark–Sacker", 1), ("flip", 1)]
    torus = next(point for point in diagram.points if point.kind == "Neimark–Sacker")
    assert torus.parameter == pytest.approx(1, abs=EXACT)
    assert torus.angle == pytest.approx(math.acos((2 - lr) / 2), abs=1e-12)
    assert diagram.parameters("flip")[0] == pytest.approx(lr / 2 - 1, abs=EXACT)


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_heavy_ball_on_the_balanced_slice(beta):
    """Flips at 1 + β and at √((9(1+β)² + (1-β)²)/2) - 1 - β (theory on heavy ball)."""
    heavy = gradient_descent("(u*v - mu)**2 / 2", "u v", lr=1.0, momentum=beta, mu=0.5)
    balanced = restrict(heavy, [[1, 1, 0, 0], [0, 0, 1, 1]])
    diagram = bifurcation_diagram(balanced, "mu", (0.5, 1.9), start=[0.7, 0], max_period=2)
    exact = [1 + beta, math.sqrt((9 * (1 + beta) ** 2 + (1 - beta) ** 2) / 2) - 1 - beta]
    np.testing.assert_allclose(diagram.parameters("flip"), exact, atol=EXACT, rtol=0)


def test_symmetric_cycle_splits_in_two():
    """The 4-cycle x, y, -x, -y has half-turn multiplier 5 + 8/t² - 4t², r = t + 2/t: it opens at t = √2 and,
    at -1, splits into two mirror cycles of the same period: a branch point, t² = (3 + √41)/4."""
    start = find_cycle(cubic_map(1.8308), [math.sqrt(2.8308 / 3)], period=4)
    diagram = bifurcation_diagram(cubic_map, "mu", (1.82, 1.84), start=start, start_at=1.8308, max_period=4)
    t = math.sqrt((3 + math.sqrt(41)) / 4)
    assert diagram.parameters("fold")[0] == pytest.approx(2 * math.sqrt(2) - 1, abs=EXACT)
    assert diagram.parameters("branch point") == pytest.approx([t + 2 / t - 1], abs=EXACT)
    assert len(diagram.branches) == 2
    assert all((branch.period == 4) for branch in diagram.branches)


def test_period_doubling_bubble_closes():
    """x -> -(1 + λ(1-λ)) x + x³ about 0: the flip at λ = 0 is undone at λ = 1; one 2-cycle joins them."""
    bubble = one_variable(
        lambda u, p: (-(1 + p[0] * (1 - p[0])) * u[0] + u[0] ** 3,),
        lambda u, p: ((-(1 + p[0] * (1 - p[0])) + 3 * u[0] ** 2,),),
        q=0.5,
    )
    diagram = bifurcation_diagram(bubble, "q", (-0.5, 1.5), start=[0.0], max_period=2)
    np.testing.assert_allclose(diagram.parameters("flip"), [0, 1], atol=EXACT, rtol=0)
    two = [branch for branch in diagram.branches if branch.period == 2]
    assert len(two) == 1
    assert two[0].ends == ("bifurcation", "closes on a flip of period 1")
    np.testing.assert_allclose(
        two[0].states[:, 0, 0] ** 2, two[0].parameter * (1 - two[0].parameter), atol=1e-9
    )


def test_branch_started_on_the_doubled_cycle_finds_its_parent():
    start = find_cycle(cubic_map(1.1), [0.85], period=2)
    diagram = bifurcation_diagram(cubic_map, "mu", (0.5, 1.2), start=start, start_at=1.1, max_period=2)
    assert diagram.parameters("flip") == pytest.approx([1], abs=EXACT)
    assert sorted(branch.period for branch in diagram.branches) == [1, 2]


def test_closed_curve_of_fixed_points():
    """x² + λ² = 1: an isola with two folds, followed once around."""
    isola = one_variable(
        lambda u, p: (u[0] + 0.3 * (1 - u[0] ** 2 - p[0] ** 2),), lambda u, p: ((1 - 0.6 * u[0],),), q=0.0
    )
    diagram = bifurcation_diagram(isola, "q", (-2, 2), start=[1.0], start_at=0.0, max_step=0.05)
    np.testing.assert_allclose(diagram.parameters("fold"), [-1, 1], atol=EXACT, rtol=0)
    assert "closed curve" in diagram.branches[0].ends


def test_several_starts():
    found = find_cycles(cubic_map(1.1), max_period=2, box=[(-2, 2)])
    diagram = bifurcation_diagram(cubic_map, "mu", (1.05, 1.15), start=found, start_at=1.1, max_period=2)
    assert sorted(branch.period for branch in diagram.branches) == [1, 1, 1, 2, 2, 2]


def test_continuum_of_minima():
    """On the plane the minima ab = mu are not isolated; the balanced 2-cycle is, and shrinks onto them at 1."""
    with pytest.raises(NotIsolated, match="restrict") as caught:
        bifurcation_diagram(product_map, "mu", (0.2, 1.2), start=[0.6, 0.4])
    assert np.prod(caught.value.states) == pytest.approx(0.2, abs=1e-12)
    start = [[1.1, 1.1], [0.85, 0.85]]
    diagram = bifurcation_diagram(product_map, "mu", (0.5, 1.25), start=start, start_at=1.1, max_period=4)
    assert diagram.parameters("flip") == pytest.approx([math.sqrt(5) - 1], abs=EXACT)
    assert diagram.parameters("degenerate") == pytest.approx([1], abs=1e-6)
    assert "not isolated" in diagram.branches[0].ends[0]


def test_curves_of_the_henon_map():
    """Fold a = -(1-b)²/4 and flips a = 3(1-b)²/4, (1-b)² + (1+b)²/4 over the whole plane."""
    diagram = bifurcation_diagram(
        henon(), "a", (-0.2, 1.06), start=[0.7, 0.2], start_at=0.2, max_period=2, escape=5
    )
    exact = {
        ("fold", 1): lambda b: -((1 - b) ** 2) / 4,
        ("flip", 1): lambda b: 3 * (1 - b) ** 2 / 4,
        ("flip", 2): lambda b: (1 - b) ** 2 + (1 + b) ** 2 / 4,
    }
    for point in diagram.points:
        curve = bifurcation_curve(henon(), point, ("a", "b"), ((-2, 2), (-0.9, 0.9)))
        a, b = curve.values.T
        assert len(b) > 30
        np.testing.assert_allclose(a, exact[point.kind, point.period](b), atol=EXACT)


def test_neimark_sacker_curve():
    """The Hénon map keeps area at b = -1; its fixed point is elliptic there for -1 < a < 3."""
    map = henon(a=0.5)
    diagram = bifurcation_diagram(map, "b", (-1.5, 0.5), start=[0.7, 0.1], start_at=0.3, max_period=1)
    torus = next(point for point in diagram.points if point.kind == "Neimark–Sacker")
    curve = bifurcation_curve(map, torus, ("b", "a"), ((-1.5, 0.5), (-3, 4)))
    np.testing.assert_allclose(curve.values[:, 0], -1, atol=EXACT)
    np.testing.assert_allclose(sorted(curve.values[[0, -1], 1]), [-1, 3], atol=0.15)  # a step of the curve
    assert curve.ends == ("the pair becomes real", "the pair becomes real")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameter": "eta"}, "eta"),
        ({"interval": (1.2, 0.2)}, "lower one first"),
        ({"interval": (0.2, np.inf)}, "finite"),
        ({"start": [np.nan]}, "finite"),
        ({"start": [0.5, 0.5]}, "needs"),
        ({"start_at": 3.0}, "must lie in the interval"),
        ({"max_period": 0}, "max_period=0 must be a positive"),
        ({"max_step": 0.0}, "max_step=0.0"),
        ({"escape": -1.0}, "escape=-1.0"),
    ],
)
def test_bad_input(changes, message):
    arguments = {"parameter": "mu", "interval": (0.2, 1.2), "start": [0.5]} | changes
    with pytest.raises(ValueError, match=message):
        bifurcation_diagram(cubic_map, **arguments)


def test_no_cycle_at_the_start():
    with pytest.raises(NotFound):
        bifurcation_diagram(henon(), "a", (-0.5, -0.2), start=[0.0, 0.0])


def test_bad_curves():
    diagram = bifurcation_diagram(henon(), "a", (0.1, 0.5), start=[0.7, 0.2], max_period=1)
    (flip,) = diagram.points
    for parameters, limits, message in [
        (("a", "c"), ((0, 1), (0, 1)), "it has a, b"),
        (("a", "a"), ((0, 1), (0, 1)), "two different"),
        (("a", "b"), ((0, 0.1), (0, 1)), "lies outside"),
        (("a", "b"), ((0, 1), (1, 0)), "lower one first"),
    ]:
        with pytest.raises(ValueError, match=message):
            bifurcation_curve(henon(), flip, parameters, limits)
    with pytest.raises(ValueError, match="no flip of"):
        bifurcation_curve(henon(b=0.2), flip, ("a", "b"), ((0, 1), (0, 1)))
    pitchfork = bifurcation_diagram(cubic_map, "mu", (-0.5, 0.5), start=[0.0]).points[0]
    with pytest.raises(ValueError, match="branch point forms no curve"):
        bifurcation_curve(cubic_map, pitchfork, ("mu", "mu"), ((0, 1), (0, 1)))


def test_every_flip_is_one_end_of_one_doubled_branch():
    """A wild landscape: folds and flips crowd together, and each flip is left or met exactly once."""
    wild = gradient_descent("log(1 + exp(-3*u)) + u**2 / 20 + cos(u) / 3", "u", lr=0.1)
    diagram = bifurcation_diagram(wild, "lr", (0.1, 60), start=[2.5], max_period=4)
    flips = [point for point in diagram.points if point.kind == "flip" and point.period == 2]
    doubled = [branch for branch in diagram.branches if branch.period == 4]
    met = sum(end == "closes on a flip of period 2" for branch in doubled for end in branch.ends)
    assert len(flips) == len(doubled) + met
    assert len(flips) > 10
    assert diagram.parameters("degenerate").size == 0
    for point in diagram.points:
        critical = 1 if point.kind == "fold" else -1
        assert abs(point.multipliers[0] - critical) < 1e-9
