import builtins
import math

import numpy as np
import pytest

from trainability.certificates import certify_cycle
from trainability.cycles import NotFound, find_cycle
from trainability.maps import Map, cubic_map, gradient_descent, product_map
from trainability.restriction import restrict
from trainability.trapping import certify_trapping


@pytest.fixture(scope="module")
def balanced():
    return restrict(product_map(), [[1, 1]])


def test_balanced_two_cycle_attracts_on_its_slice(balanced):
    proof = certify_cycle(balanced, "mu", ("1.01", "1.23"), start=[0.9], period=2)
    assert proof
    assert proof.verdict == "proved"
    # The pieces cover the interval without gaps, and the tubes hold the cycle known in closed form.
    assert proof.pieces[0, 0] < 1.01
    assert proof.pieces[-1, 1] > 1.23
    np.testing.assert_array_equal(proof.pieces[1:, 0], proof.pieces[:-1, 1])
    for piece, states, slopes, radius, bound in zip(
        proof.pieces, proof.states, proof.slopes, proof.radius, proof.bound, strict=True
    ):
        for mu in np.linspace(*piece, 5):
            x = math.sqrt((1 + mu - math.sqrt((1 + mu) ** 2 - 4)) / 2)
            tube = states + slopes * (mu - piece.mean())
            assert abs(np.sort(tube[:, 0]) - [x, 1 / x]).max() <= radius + 1e-15
            assert abs(9 - 2 * (1 + mu) ** 2) <= bound < 1


def test_two_cycle_attracts_in_the_whole_plane():
    """Across the slice its multiplier is 3 - 2mu."""
    proof = certify_cycle(product_map, "mu", (1.02, 1.23), start=[[1.1, 1.1], [0.9, 0.9]])
    assert proof
    assert (proof.bound >= np.abs(3 - 2 * proof.pieces).max(axis=1) - 1e-12).all()


@pytest.mark.parametrize(
    ("interval", "guess", "period"),
    [(("1.24", "1.287"), 0.75, 4), (("1.451", "1.46"), 0.904, 3), (("1.0001", "1.236"), 1.005, 2)],
    ids=["4-cycle", "window of period 3", "2-cycle almost to both ends"],
)
def test_other_attracting_cycles(balanced, interval, guess, period):
    assert certify_cycle(balanced, "mu", interval, start=[guess], period=period)


def test_momentum_with_elementary_functions():
    """A minimum with complex multipliers of modulus √m, in the presence of tanh."""
    descent = gradient_descent("(u**2 - 1)**2 / 8 + tanh(u) / 10", "u", lr=0.5, momentum=0.5)
    proof = certify_cycle(descent, "momentum", (-0.6, 0.99), start=[1, 0])
    assert proof
    assert proof.bound[-1] >= math.sqrt(0.99)
    refused = certify_cycle(descent, "momentum", (0.5, 1.05), start=[1, 0])
    assert refused.verdict == "refuted"
    assert "product of the multipliers exceeds 1" in refused.reason


@pytest.mark.parametrize("end", ["1.25", "1.2361"])
def test_false_statement_is_refuted(balanced, end):
    """The 2-cycle repels beyond √5 - 1 = 1.23606797…"""
    refused = certify_cycle(balanced, "mu", ("1.01", end), start=[0.9], period=2)
    assert not refused
    assert refused.verdict == "refuted"
    assert "below -1" in refused.reason
    place = float(refused.reason.split("[")[1].split(",")[0])
    assert math.sqrt(5) - 1 < place <= float(end)


def test_repelling_multiplier_above_one_is_refuted():
    """The origin of the cubic map has multiplier 1 + mu."""
    refused = certify_cycle(cubic_map, "mu", (-0.5, 0.5), start=[0.0])
    assert refused.verdict in ("refuted", "undecided")
    assert not refused
    refused = certify_cycle(cubic_map, "mu", (0.1, 0.5), start=[0.0])
    assert refused.verdict == "refuted"
    assert "exceeds 1" in refused.reason


def test_cycle_that_ceases_to_exist_is_undecided():
    """The fixed points ±√a of x + a - x² meet at a = 0: nothing can be enclosed below."""
    fold = Map(
        lambda u, p: (u[0] + p[0] - u[0] * u[0],),
        lambda u, p: ((1 - 2 * u[0],),),
        variables=("x",),
        parameters={"c": 0.5},
    )
    flipped = Map(
        lambda u, p: (u[0] - p[0] - u[0] * u[0],),
        lambda u, p: ((1 - 2 * u[0],),),
        variables=("x",),
        parameters={"c": -0.5},
    )
    assert certify_cycle(fold, "c", (0.01, 0.9), start=[0.1])
    refused = certify_cycle(flipped, "c", (-0.5, 0.1), start=[0.7])
    assert refused.verdict == "undecided"
    assert refused.reason
    assert refused.pieces[-1, 1] < 0  # everything proved lies before the fold
    assert refused.pieces[-1, 1] > -1e-6  # and nearly all of it is


def test_interval_too_wide_for_the_work_allowed(balanced):
    refused = certify_cycle(balanced, "mu", (1.01, 1.23), start=[0.9], period=2, max_pieces=5)
    assert refused.verdict == "undecided"
    assert "undecided" in repr(refused)


def test_trapping_boxes():
    """max |f| on the box is 2 (r/3)^(3/2) = 1.43 at mu = 1.4, and |f(±1.5)| <= 1.43 for 0.3 <= mu."""
    proof = certify_trapping(cubic_map(), [(-1.5, 1.5)], parameter="mu", interval=("0.3", "1.4"))
    assert proof
    volume = np.prod(proof.pieces[:, :, 1] - proof.pieces[:, :, 0], axis=1).sum()
    assert volume == pytest.approx(3 * 1.1, rel=1e-9)  # the cells fill box and interval
    assert certify_trapping(cubic_map(1.5), [(-1.8, 1.8)])
    shrink = gradient_descent("u**2 / 2 + v**2", "u v", lr=0.3)
    assert certify_trapping(shrink, [(-1, 1), (-1, 1)])


def test_box_that_is_left_is_refuted_with_a_witness():
    refused = certify_trapping(product_map(1.1), [(-2, 2), (-2, 2)])
    assert refused.verdict == "refuted"
    refused = certify_trapping(cubic_map(), [(-1.5, 1.5)], parameter="mu", interval=(0.3, 1.6))
    assert refused.verdict == "refuted"
    x, mu = (float(part.split("=")[1].split()[0]) for part in refused.reason.split(","))
    assert abs(cubic_map(mu)([x])[0]) > 1.5


def test_box_whose_image_touches_its_edge_is_undecided():
    """At mu = 2 the slice |x| <= 2 is mapped onto itself."""
    verdict = certify_trapping(cubic_map(2.0), [(-2, 2)], max_cells=300)
    assert verdict.verdict == "undecided"


def test_balls_contain_what_the_step_computes():
    """Many functions and a rational exponent at once: the float step lies in the ball, to its own rounding."""
    from trainability._balls import ball, ball_map, bounds

    loss = "log(1 + exp(u*v))/3 + sin(u)*cos(v)/7 + sqrt(1 + u**2) + erf(v)/(2 + u**2) + (1 + v**2)**(3/2)*pi"
    descent = gradient_descent(loss, "u v", lr=0.1)
    balls = ball_map(descent)
    rng = np.random.default_rng(0)
    for u, v in rng.uniform(-1, 1, (20, 2)):
        cell = [ball(u - 1e-3, u + 1e-3), ball(v - 1e-3, v + 1e-3)]
        p = [ball(0.1, 0.1)]
        for enclosure, inside in zip(balls.step(cell, p), descent([u, v]), strict=True):
            lo, hi = bounds(enclosure)
            assert lo <= inside <= hi
            assert hi - lo < 0.1
        jacobian = descent.jacobian_at([u, v])
        for i, row in enumerate(balls.jacobian(cell, p)):
            for j, enclosure in enumerate(row):
                lo, hi = bounds(enclosure)
                assert lo <= jacobian[i, j] <= hi


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: certify_cycle(cubic_map, "eta", (1, 2), start=[1.0]), "eta"),
        (lambda: certify_cycle(cubic_map, "mu", (1.2, 1.1), start=[1.0]), "lower one first"),
        (lambda: certify_cycle(cubic_map, "mu", 1.1, start=[1.0]), "two numbers"),
        (lambda: certify_cycle(cubic_map, "mu", (1.1, 1.2), start=[1.0], period=0), "period=0"),
        (lambda: certify_cycle(cubic_map, "mu", (1.1, 1.2), start=[1.0], precision=0), "precision=0"),
        (lambda: certify_cycle(cubic_map, "mu", (0.5, 0.9), start=[0.7], period=2), "period 1, not 2"),
        (lambda: certify_trapping(cubic_map(), [(1, -1)]), "lower before upper"),
        (lambda: certify_trapping(cubic_map(), [(-1, 1)], parameter="mu"), "belong together"),
        (lambda: certify_trapping(cubic_map(), [(-1, 1)], parameter="eta", interval=(0, 1)), "it has mu"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_map_without_symbols():
    opaque = Map(
        lambda u, p: (p[0] * math.tanh(u[0]),),
        lambda u, p: ((p[0] * (1 - math.tanh(u[0]) ** 2),),),
        variables=("x",),
        parameters={"q": 0.5},
    )
    with pytest.raises(ValueError, match="no symbolic form"):
        certify_cycle(opaque, "q", (0.4, 0.5), start=[0.0])


def test_no_cycle_to_make_a_statement_about():
    none = Map(
        lambda u, p: (u[0] + p[0] + u[0] ** 2,),
        lambda u, p: ((1 + 2 * u[0],),),
        variables=("x",),
        parameters={"c": 1},
    )
    with pytest.raises(NotFound):
        certify_cycle(none, "c", (1, 2), start=[0.0])


def test_without_flint(monkeypatch):
    """Proofs say how to get what they need; searches do without."""
    real = builtins.__import__

    def no_flint(name, *args, **kwargs):
        if name == "flint":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_flint)
    with pytest.raises(ImportError, match=r"pip install 'trainability\[precision\]'"):
        certify_cycle(cubic_map, "mu", (1.1, 1.2), start=[0.8], period=2)
    assert find_cycle(cubic_map(1.1), [0.8], period=2).stable
    from trainability.cycles import find_cycles

    assert not find_cycles(cubic_map(1.1), max_period=1, box=[(0.5, 2)]).complete
