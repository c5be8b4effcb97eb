"""Claims on the product map of a linear transformer, arXiv:2605.21292, measured by iterating the map."""

import numpy as np

from ._question import wilson
from .claims import Measured, Verdict, claim
from .classification import critical_lr_from, ellipse_function, thresholds
from .ellipse import invariant_ellipse, transverse_exponent
from .random_orbits import divergence_probability

PAPER = "arXiv:2605.21292"

# Bisection ends here; a claimed threshold is met if it lies in this distance of the bracket.
RESOLUTION = 1e-9


def _step(mu, a, b):
    error = a * b - mu
    return a - error * b, b - error * a


def _balanced(mu, u):
    return u - (u * u - mu) * u


def _threshold(name: str, low: float, high: float, beyond) -> Measured:
    """Bisect for the effective step from which on `beyond` holds, and set it beside the closed form."""
    if beyond(low) or not beyond(high):
        raise RuntimeError(f"{name} is not bracketed by {low} and {high}")
    while high - low > RESOLUTION / 2:
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    claimed = thresholds()[name]
    verdict = Verdict.of((low, high), (claimed - RESOLUTION, claimed + RESOLUTION))
    return Measured(f"μ = {(low + high) / 2:.9f}, claimed {claimed:.9f}", (low, high), verdict)


def _multiplier(mu: float, point: float, period: int) -> float:
    """Slope of the balanced map's iterate along a cycle."""
    slope = 1.0
    for _ in range(period):
        slope *= 1 + mu - 3 * point**2
        point = _balanced(mu, point)
    return float(slope)


@claim(PAPER, "Zero loss stops attracting at μ = 1, where 2-cycles are born.")
def two_cycle_threshold() -> Measured:
    """The minimum a = b = √μ is unstable where the slope of the map there is below -1."""
    return _threshold("two_cycle", 0.5, 1.2, lambda mu: _multiplier(mu, mu**0.5, 1) < -1)


@claim(PAPER, "The balanced 2-cycle stops attracting at μ = √5 - 1, where a 4-cycle is born.")
def four_cycle_threshold() -> Measured:
    """The 2-cycle is found by Newton's method from an orbit that has settled, and followed in μ."""

    def beyond(mu: float) -> bool:
        u = 1.3  # near the larger point of the cycle all along the bracket
        for _ in range(50):
            image = _balanced(mu, _balanced(mu, u))
            u -= (image - u) / (_multiplier(mu, u, 2) - 1)
        if abs(_balanced(mu, u) - u) < 1e-6:
            raise RuntimeError(f"Newton's method found the fixed point and not the 2-cycle at mu = {mu}")
        return _multiplier(mu, u, 2) < -1

    return _threshold("four_cycle", 1.15, 1.3, beyond)


@claim(PAPER, "The two mirror-image attractors merge at μ = 3√3/2 - 1.")
def merging_crisis() -> Measured:
    """The balanced orbit changes sign as soon as that of the map's critical point does."""

    def beyond(mu: float) -> bool:
        top = np.sqrt((1 + mu) / 3)
        return bool(_balanced(mu, _balanced(mu, top)) < 0)

    return _threshold("merging_crisis", 1.3, 1.9, beyond)


@claim(PAPER, "Every bounded balanced attractor is lost at μ = 2: beyond, almost every start diverges.")
def escape_threshold() -> Measured:
    """The critical point's orbit leaves |u| < 10 within 1000 steps; its escape is exponentially fast."""

    def beyond(mu: float) -> bool:
        u = np.sqrt((1 + mu) / 3)
        for _ in range(1000):
            u = _balanced(mu, u)
            if abs(u) > 10:
                return True
        return False

    return _threshold("escape", 1.9, 2.1, beyond)


@claim(PAPER, "For 0 < μ < 2 an ellipse maps to itself.")
def invariant_ellipse_maps_to_itself() -> Measured:
    """Largest residual after one step of 400 points for 19 values of μ; an ellipse 1 % larger is the control."""
    residual, control = 0.0, np.inf
    for mu in np.linspace(0.1, 1.9, 19):
        curve = np.asarray(invariant_ellipse(mu)).reshape(-1, 2).T
        residual = max(residual, float(np.abs(ellipse_function(mu, *_step(mu, *curve))).max()))
        larger = 1.01 * curve
        moved = ellipse_function(mu, *_step(mu, *larger)) - ellipse_function(mu, *larger)
        control = min(control, float(np.abs(moved).max()))
    # A step loses a few digits of sixteen; the control moves by hundredths.
    return Measured(
        f"residual {residual:.1e} of H after a step (an ellipse 1 % larger: {control:.2g})",
        None,
        Verdict.SUPPORTED if residual < 1e-12 < control else Verdict.CONTRADICTED,
    )


def _on_ellipse(mu: float, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total, difference = 2 * np.sqrt(2 + mu) * np.cos(angle), 2 * np.sqrt(2 - mu) * np.sin(angle)
    return (total + difference) / 2, (total - difference) / 2


@claim(PAPER, "On the ellipse the map multiplies the angle by -3, so that its tangential exponent is log 3.")
def tangential_exponent_is_log_3() -> Measured:
    """Largest distance between the image of the angle θ and the point at π - 3θ."""
    angle = np.random.default_rng(0).uniform(-np.pi, np.pi, 10_000)
    worst = 0.0
    for mu in (0.3, 1.0, 1.7):
        image = np.array(_step(mu, *_on_ellipse(mu, angle)))
        worst = max(worst, float(np.abs(image - _on_ellipse(mu, np.pi - 3 * angle)).max()))
    return Measured(
        f"10000 angles off by at most {worst:.1e} from π - 3θ",
        None,
        Verdict.SUPPORTED if worst < 1e-12 else Verdict.CONTRADICTED,
    )


@claim(PAPER, "The ellipse repels: its transverse exponent is positive, arccosh((1 + √(25 - 4μ²)) / 4).")
def transverse_exponent_is_positive() -> Measured:
    """Mean of log |det J| over the invariant measure less log 3, against the closed form, in nats per step."""
    angle = np.random.default_rng(1).uniform(-np.pi, np.pi, 400_000)
    worst, least, found = 0.0, np.inf, []
    for mu in (0.3, 1.0, 1.7):
        a, b = _on_ellipse(mu, angle)
        logs = np.log(np.abs((1 - a * a) * (1 - b * b) - (2 * a * b - mu) ** 2))
        value, error = logs.mean() - np.log(3), logs.std() / np.sqrt(len(logs))
        worst = max(worst, abs(value - float(transverse_exponent(mu))) / error)
        least = min(least, value - 1.96 * error)
        found.append(f"{value:.4f} ± {error:.4f} (μ = {mu})")
    supported = worst < 4 and least > 0
    text = f"{', '.join(found)}; at most {worst:.1f} standard errors from the closed form"
    return Measured(text, None, Verdict.SUPPORTED if supported else Verdict.CONTRADICTED)


@claim(PAPER, "A start diverges if, and but for a null set only if, it lies outside the ellipse (0 < μ < 2).")
def ellipse_separates_fates() -> Measured:
    """Random steps and starts iterated 3000 times; supported if at least 99.9 % agree, by the interval."""
    rng = np.random.default_rng(2)
    n = 20_000
    mu = rng.uniform(0.05, 1.95, n)
    a, b = rng.uniform(-3, 3, (2, n))
    outside = ellipse_function(mu, a, b) > 0
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(3000):
            a, b = _step(mu, a, b)
    same = np.mean(outside == ~(np.isfinite(a) & np.isfinite(b)))
    interval = wilson(float(same), n)
    return Measured(f"{same:.2%} of {n} starts as claimed", interval, Verdict.of(interval, (0.999, 1.0)))


@claim(
    PAPER,
    "The critical learning rate of a start has a closed form that separates bounded from divergent runs.",
)
def critical_learning_rate() -> Measured:
    """Gradient descent on (g u v - y)²/2 at 0.1 % below and above it; supported if at least 99 % are as claimed."""
    rng = np.random.default_rng(3)
    n = 4000
    gain, target = rng.uniform(0.5, 2, (2, n))
    start = rng.uniform(-1.5, 1.5, (2, n))
    critical = critical_lr_from(gain**2, gain * target, *start)
    same = 0
    for factor in (0.999, 1.001):
        u, v = start
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(5000):
                error = factor * critical * gain * (gain * u * v - target)
                u, v = u - error * v, v - error * u
        same += int((np.isfinite(u) & np.isfinite(v)).sum() if factor < 1 else (~np.isfinite(u * v)).sum())
    interval = wilson(same / (2 * n), 2 * n)
    return Measured(f"{same} of {2 * n} runs as claimed", interval, Verdict.of(interval, (0.99, 1.0)))


@claim(PAPER, "Mini-batches let a start escape that the full batch keeps bounded.")
def mini_batch_escape() -> Measured:
    """Probability of divergence from inside the full batch's ellipse, over 20000 orders of two batches."""
    mu, a, b, n = 0.6, 1.9, 0.9, 20_000
    inside = float(ellipse_function(mu, a, b)) < 0
    squares = np.array([0.6, 0.8, 1.0, 1.2]) ** 2
    curvatures = (squares[:2].mean() / squares.mean(), squares[2:].mean() / squares.mean())
    value = divergence_probability(mu, a, b, curvatures=curvatures, n=n).value
    interval = wilson(value, n)
    supported = inside and interval[0] > 0.001
    return Measured(
        f"probability {value:.3f} from H = {float(ellipse_function(mu, a, b)):.3f}",
        interval,
        Verdict.SUPPORTED if supported else Verdict.INCONCLUSIVE,
    )
