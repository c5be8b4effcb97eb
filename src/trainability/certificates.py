"""Computer-assisted proofs about cycles over whole intervals of a parameter.

All inequalities are checked in Arb's ball arithmetic on the map's symbolic form, so what is proved holds
for the real numbers, not for their rounding. A proof that fails is a result that says where.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from . import _balls
from ._checks import check_interval, positive_whole
from ._map import Map
from ._shooting import linearize, map_tuples, newton, parameter_values
from .cycles import find_cycle, guessed_states
from .dynamics import settle_map

Verdict = Literal["proved", "refuted", "undecided"]

# Krawczyk's test is repeated on boxes inflated by `_INFLATE` until it holds; failures need a narrower
# piece, not more rounds. Squaring the monodromy matrix `_SQUARINGS` times sees contraction that needs
# 2^_SQUARINGS laps to show in the norm. A piece is halved no further than to `NARROWEST` of the interval.
_TRIES, _INFLATE, _SQUARINGS, NARROWEST = 10, 1.5, 6, 2.0**-30
# Least radius of a tube, relative to the states: far above the rounding of its centre, so that the close
# enclosure at the end of one piece fits into the tube of the next.
_FLOOR = 1e-10


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """What became of a proof. True in a condition only if it is proved.

    `verdict` is "proved", "refuted" (the opposite is proved, `reason` says where) or "undecided" (`reason`
    says what stopped it). `pieces` (k, 2) are the parameter intervals, or (k, d + 1, 2) the cells of box
    and parameter, that the proof is made of. `precision` is in bits.
    """

    statement: str
    verdict: Verdict
    reason: str
    pieces: np.ndarray
    precision: int

    def __bool__(self) -> bool:
        return self.verdict == "proved"

    def __repr__(self) -> str:
        detail = f"in {len(self.pieces)} pieces" if self else self.reason
        return f"{self.verdict}: {self.statement} ({detail})"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CycleCertificate(Certificate):
    """A proof about a cycle, one tube for each piece of the parameter interval.

    On piece j the cycle lies within `radius[j]` (in every coordinate) of states[j] + slopes[j] (λ - middle of
    the piece), both (period, d), and nowhere else in that tube; `bound[j]` is an upper bound of the
    modulus of all its multipliers, infinite where none below 1 was found.
    """

    states: np.ndarray
    slopes: np.ndarray
    radius: np.ndarray
    bound: np.ndarray


@dataclass(frozen=True, eq=False)
class _Tube:
    """The box U0 + S (λ - λ0) + Y that holds exactly one cycle for every λ of the piece."""

    piece: tuple[float, float]
    middle: float
    U0: np.ndarray
    S: np.ndarray
    Y: list
    jacobians: list  # enclosures of the Jacobians along the cycle over the piece
    bound: float = np.inf

    def at(self, value: float) -> list:
        """The tube's section at one λ, a flat list of balls."""
        arb = _balls.load_flint().arb
        shift = arb(value) - self.middle
        flat = zip(self.U0.ravel().tolist(), self.S.ravel().tolist(), self.Y, strict=True)
        return [u + s * shift + y for u, s, y in flat]


class _Failure(Exception):
    """Why a cycle could not be enclosed over a piece."""


def certify_cycle(
    map: Map | Callable[..., Map],
    parameter: str,
    interval: tuple[Any, Any],
    *,
    start: Any,
    period: int | None = None,
    precision: int = 128,
    max_pieces: int = 4096,
) -> CycleCertificate:
    """Prove that a cycle exists and attracts for every parameter of an interval.

    Parameters
    ----------
    map : Map, or a function that makes one
        With a symbolic form. To prove it within an invariant subspace, `restrict` the map first.
    parameter : str
    interval : (number or str, number or str)
        Widened by one ulp at each end, so that it contains the decimal numbers meant.
    start : array_like or Cycle
        Guess of the cycle at the interval's lower end: one state (d,) or all of them (period, d).
    period : int, optional
        Needed with a single state, where it is 1 unless given.
    precision : int, optional
        Bits of the ball arithmetic.
    max_pieces : int, optional
        The interval is cut where a proof needs it; after this many tries the rest is undecided.

    Returns
    -------
    CycleCertificate

    Raises
    ------
    ValueError
        If an argument does not fit or the map has no symbolic form.
    NotFound
        If no cycle of that period is near the guess: there is nothing to make a statement about.
    ImportError
        If python-flint is missing.

    Notes
    -----
    On each piece Krawczyk's operator for the equations f(u_i) = u_(i+1), centred on the cycle's tangent in
    the parameter, maps a tube into its interior: for every parameter it holds exactly one cycle. Its points
    are shown to be distinct, its multipliers to lie inside the unit circle (the monodromy matrix, or a power of it,
    has norm below 1), and neighbouring tubes to hold the same cycle at their common end.
    "refuted" means that the cycle, so followed, has a multiplier that is proved to lie outside on a piece.
    The time grows like (period · d)³. theory/10 (eq:krawczyk).

    Examples
    --------
    >>> from trainability.maps import cubic_map
    >>> proof = certify_cycle(cubic_map, "mu", (1.05, 1.2), start=[0.8], period=2)
    >>> proof.verdict, proof.statement
    ('proved', 'for every mu in [1.05, 1.2] the cubic map has an attracting cycle of period 2 near (0.8)')
    >>> certify_cycle(cubic_map, "mu", (1.05, 1.3), start=[0.8], period=2).verdict
    'refuted'
    """
    flint = _balls.load_flint()
    lo, hi = outward(interval)
    positive_whole("precision", precision)
    positive_whole("max_pieces", max_pieces)
    map = settle_map(map, parameter, lo).with_parameters(**{parameter: lo})
    guess = guessed_states(map, start, period)
    cycle = find_cycle(map, guess)
    if cycle.period != len(guess):
        raise ValueError(
            f"the guess leads to a cycle of period {cycle.period}, not {len(guess)}; give a closer one, or start "
            f"inside the interval where the cycle exists"
        )
    point = ", ".join(f"{x:.6g}" for x in guess[0])
    ends = ", ".join(str(end) for end in interval)
    what = f"the {map.name} has an attracting cycle of period {cycle.period} near ({point})"
    statement = f"for every {parameter} in [{ends}] {what}"
    prover = _CycleProver(map, parameter)
    with flint.ctx.workprec(precision):
        tubes, verdict, reason = prover.cover((lo, hi), cycle.states, max_pieces)
    shape = (-1, cycle.period, map.d)
    return CycleCertificate(
        statement=statement,
        verdict=verdict,
        reason=reason,
        pieces=np.array([tube.piece for tube in tubes]).reshape(-1, 2),
        precision=precision,
        states=np.array([tube.U0 for tube in tubes]).reshape(shape),
        slopes=np.array([tube.S for tube in tubes]).reshape(shape),
        radius=np.array([max(_balls.largest(y) for y in tube.Y) for tube in tubes]),
        bound=np.array([tube.bound for tube in tubes]),
    )


def outward(interval: tuple[Any, Any]) -> tuple[float, float]:
    """Return an interval's ends as floats, one ulp further out than they read."""
    try:
        lo, hi = check_interval((float(interval[0]), float(interval[1])))
    except (TypeError, IndexError) as error:
        raise ValueError(f"interval={interval!r} must be two numbers, the lower one first") from error
    return float(np.nextafter(lo, -np.inf)), float(np.nextafter(hi, np.inf))


def show(piece: tuple[float, float]) -> str:
    """An interval as text."""
    return f"[{piece[0]:.10g}, {piece[1]:.10g}]"


class _CycleProver:
    """Proofs about cycles of one map over pieces of one parameter."""

    def __init__(self, map: Map, parameter: str):
        self.map = map
        self.vary = map.parameter_index(parameter)
        self.balls = _balls.ball_map(map)
        self.slope = _balls.parameter_slope(map, parameter)

    def cover(
        self, interval: tuple[float, float], states: np.ndarray, max_pieces: int
    ) -> tuple[list[_Tube], Verdict, str]:
        """Prove the statement piece by piece, from the cycle at the lower end; halve a piece where it fails.

        Where only the attraction stays open, as next to a bifurcation, the cycle is followed beyond: if it
        is proved to repel there, the statement is refuted.
        """
        tubes: list[_Tube] = []
        todo, tried, unsettled = [interval], 0, ""
        while todo:
            piece = todo.pop()
            tried += 1
            place = f"in {show(piece)}, after {tried} pieces"
            last_try = piece[1] - piece[0] < NARROWEST * (interval[1] - interval[0]) or tried >= max_pieces
            middle = 0.5 * (piece[0] + piece[1])
            try:
                tube = self._tube(piece, tubes[-1] if tubes else None, states)
            except _Failure as failure:
                if last_try:
                    return tubes, "undecided", f"{failure} {place}"
                todo += [(middle, piece[1]), (piece[0], middle)]
                continue
            if repels := _repels(tube.jacobians):
                return tubes, "refuted", f"{repels} everywhere in {show(piece)}"
            bound = _contraction_bound(tube.jacobians)
            if bound < 1 or last_try or unsettled:
                tubes.append(replace(tube, bound=bound))
                unsettled = unsettled or ("" if bound < 1 else f"no attraction could be shown {place}")
                if tried >= max_pieces and todo:
                    return tubes, "undecided", f"max_pieces={max_pieces} reached {place}"
            else:
                todo += [(middle, piece[1]), (piece[0], middle)]
        return tubes, "undecided" if unsettled else "proved", unsettled

    def _tube(self, piece: tuple[float, float], before: _Tube | None, states: np.ndarray) -> _Tube:
        """A tube around the cycle over one piece, proved to continue the tube before it."""
        middle = piece[0] + 0.5 * (piece[1] - piece[0])
        if before is not None:
            states = before.U0 + before.S * (middle - before.middle)
        tube = self._enclose(piece, *self._centre(states, middle), floor=_FLOOR)
        if before is not None:
            # The cycle at the common end, enclosed closely, lies in both tubes, and is the only one there.
            end = piece[0]
            centre = self._centre(before.U0 + before.S * (end - before.middle), end)
            section = self._enclose((end, end), *centre, floor=0.0).at(end)
            if not (_balls.contain(before.at(end), section) and _balls.contain(tube.at(end), section)):
                raise _Failure("neighbouring pieces could not be joined")
        return tube

    def _centre(self, states: np.ndarray, value: float) -> tuple[np.ndarray, np.ndarray]:
        """The cycle at one parameter and its derivative in it, in doubles: no part of the proof."""
        p = self._parameters(value)
        found = newton(self.map, states, bound=10 * (1 + np.abs(states).max()), p=p)
        system = None if found is None else linearize(self.map, found[0], p, self.vary)
        if found is None or system is None:
            raise _Failure("no cycle was found to enclose")
        d = self.map.d
        by_value = np.linalg.lstsq(system.closing[:, :d], -system.closing[:, d], rcond=1e-12)[0]
        return found[0], system.P[:-1] @ np.append(by_value, 1.0)

    def _parameters(self, value) -> tuple:
        p = list(parameter_values(self.map))
        p[self.vary] = value
        return tuple(p)

    def _enclose(self, piece, U0: np.ndarray, S: np.ndarray, *, floor: float) -> _Tube:
        """Krawczyk's test over a piece, with a tube no narrower than `floor` relative to the states."""
        flint = _balls.load_flint()
        arb, arb_mat = flint.arb, flint.arb_mat
        period, d = U0.shape
        n = period * d
        middle = piece[0] + 0.5 * (piece[1] - piece[0])
        at_middle = [arb(x) for x in self._parameters(middle)]
        over_piece = [*at_middle]
        over_piece[self.vary] = _balls.ball(*piece)
        shift = over_piece[self.vary] - middle
        line = [
            [arb(u) + s * shift for u, s in zip(row, slope, strict=True)]
            for row, slope in zip(U0.tolist(), S.tolist(), strict=True)
        ]

        # F on the line U0 + S (λ - λ0), by the mean value theorem in λ: dF/dλ nearly vanishes on it.
        F = []
        for i, (u, along) in enumerate(zip(line, S.tolist(), strict=True)):
            value = self.balls.step([arb(x) for x in U0[i].tolist()], at_middle)
            rows, slope = self.balls.jacobian(u, over_piece), self.slope(u, over_piece)
            following, next_slope = U0[(i + 1) % period].tolist(), S[(i + 1) % period].tolist()
            for j in range(d):
                change = sum((a * s for a, s in zip(rows[j], along, strict=True)), slope[j]) - next_slope[j]
                F.append(value[j] - following[j] + change * shift)
        C = self._preconditioner(U0, middle)
        newton_step = C * _balls.column(F)
        floor *= 1 + float(np.abs(U0).max())
        Y = [_symmetric(newton_step[i, 0], floor) for i in range(n)]
        identity = arb_mat(np.eye(n).tolist())
        for _ in range(_TRIES):
            states = [[x + y for x, y in zip(u, Y[i * d :], strict=False)] for i, u in enumerate(line)]
            jacobians = [arb_mat(self.balls.jacobian(u, over_piece)) for u in states]
            DF = self._cyclic(jacobians)
            contraction = (identity - C * DF) * _balls.column(Y)
            K = [contraction[i, 0] - newton_step[i, 0] for i in range(n)]
            if not all(k.is_finite() for k in K):
                break
            if all(y.contains_interior(k) for y, k in zip(Y, K, strict=True)):
                self._check_distinct(states)
                return _Tube(piece, middle, U0, S, Y, jacobians)
            Y = [_symmetric(k, floor) for k in K]
        raise _Failure("a cycle could not be enclosed")

    def _preconditioner(self, U0: np.ndarray, value: float):
        """An approximate inverse of the derivative of all equations at the centre, as an exact matrix."""
        flint = _balls.load_flint()
        p = self._parameters(value)
        blocks = [np.array(self.map.jacobian.py_func(u, p), dtype=float) for u in map_tuples(U0)]
        try:
            inverse = np.linalg.inv(self._cyclic(blocks))
        except np.linalg.LinAlgError as error:
            raise _Failure("the cycle's equations are singular") from error
        return flint.arb_mat(inverse.tolist())

    def _cyclic(self, blocks: list):
        """Derivative of f(u_i) - u_(i+1) in all states, from the Jacobians (d, d) at each: array or balls."""
        period, d = len(blocks), self.map.d
        n = period * d
        rows = [[0.0] * n for _ in range(n)]
        for i, A in enumerate(blocks):
            for j in range(d):
                for k in range(d):
                    rows[i * d + j][i * d + k] = A[j, k]
                rows[i * d + j][((i + 1) % period) * d + j] -= 1.0
        return np.array(rows) if isinstance(blocks[0], np.ndarray) else _balls.load_flint().arb_mat(rows)

    def _check_distinct(self, states: list) -> None:
        """Show that the period is not a shorter one."""
        for k in range(1, len(states)):
            if len(states) % k == 0 and _balls.overlap(states[0], states[k]):
                raise _Failure(f"the period may be {k}")


def _symmetric(x, floor: float):
    """A ball around 0 with |x|, inflated, in its interior, and a radius of at least `floor`."""
    return _balls.load_flint().arb(0, max(_balls.largest(x) * _INFLATE, floor, 1e-300))


def _monodromy(jacobians: list):
    M = jacobians[0]
    for A in jacobians[1:]:
        M = A * M
    return M


def _repels(jacobians: list) -> str:
    """A proof that some multiplier lies outside the unit circle, in words, or ""."""
    M = _monodromy(jacobians)
    identity = _balls.load_flint().arb_mat(np.eye(M.nrows()).tolist())
    if (identity - M).det() < 0:  # the characteristic polynomial at 1; it grows to +∞
        return "a multiplier exceeds 1"
    if (identity + M).det() < 0:
        return "a multiplier lies below -1"
    return "the product of the multipliers exceeds 1" if abs(M.det()) > 1 else ""


def _contraction_bound(jacobians: list) -> float:
    """Upper bound of the multipliers' modulus, from norms of powers of the monodromy matrix; or infinity.

    The norm is the Euclidean one in an eigenbasis, bounded by |B|² <= largest row sum of B'B: sharp for
    real eigenvalues and for complex pairs.
    """
    flint = _balls.load_flint()
    M = _monodromy(jacobians)
    middle = np.array([[float(x.mid()) for x in row] for row in M.tolist()])
    T = flint.arb_mat(_real_eigenbasis(middle).tolist())
    power, best = T.inv() * M * T, np.inf
    for k in range(_SQUARINGS):
        gram = power.transpose() * power
        square = max(_balls.largest(sum(abs(x) for x in row)) for row in gram.tolist())
        if not np.isfinite(square):
            break
        best = min(best, float(np.nextafter(square ** (0.5 / 2**k), np.inf)))
        power = power * power
    return best if best < 1 else np.inf


def _real_eigenbasis(M: np.ndarray) -> np.ndarray:
    """Columns in which M is nearly block diagonal; the identity where eigenvectors nearly coincide."""
    values, vectors = np.linalg.eig(M)
    columns = [v.real if w.imag >= 0 else v.imag for w, v in zip(values, vectors.T, strict=True)]
    T = np.array(columns).T
    return T if np.linalg.cond(T) < 1e8 else np.eye(len(M))
