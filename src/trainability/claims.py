"""Claims of the papers: what one says, what is measured here, and the verdict; `trainability claim NAME`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any, NamedTuple

# Modules of claims that stand by themselves, in the order of the table; studies bring theirs along.
_MODULES = ("claims_product_map", "claims_geometry", "claims_networks", "claims_transformers")

PAPERS = {
    "arXiv:2605.21292": "the product map of a linear transformer",
    "arXiv:2403.02579": "the angle and the gradient exponent of an initialization",
    "arXiv:2402.06184": "the boundary of trainability of small networks",
    "arXiv:2501.04286": "the boundary of trainability of a transformer",
}


class Verdict(StrEnum):
    """What a measurement says to a claim; "out of reach here" was not measured, and the text says why."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    OUT_OF_REACH = "out of reach here"

    @classmethod
    def of(cls, interval: tuple[float, float], claimed: tuple[float, float]) -> "Verdict":
        """Judge by where an interval lies: inside the claimed range, beside it, or across one of its ends.

        Parameters
        ----------
        interval : (float, float)
            95 % interval of what was measured.
        claimed : (float, float)
            Range that the claim allows, ends included; infinite ends allowed.

        Examples
        --------
        >>> [Verdict.of(interval, (0.9, 1.1)).value for interval in ((0.95, 1.0), (1.2, 1.3), (1.0, 1.2))]
        ['supported', 'contradicted', 'inconclusive']
        """
        low, high = interval
        if claimed[0] <= low and high <= claimed[1]:
            return cls.SUPPORTED
        return cls.CONTRADICTED if high < claimed[0] or low > claimed[1] else cls.INCONCLUSIVE


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a paper beside its measurement.

    Attributes
    ----------
    name : str
        Short and unique, as "two-cycle-threshold".
    paper : str
        One of `PAPERS`, with the place if useful: "arXiv:2403.02579, section 5".
    text : str
        The claim, in one sentence.
    measured : str
        What was measured, with units and size.
    interval : tuple of float or None
        95 % interval of the number in `measured`; None if it is exact or a count.
    verdict : Verdict
    command : str
        The command that makes the number again.
    """

    name: str
    paper: str
    text: str
    measured: str
    interval: tuple[float, float] | None
    verdict: Verdict
    command: str

    def __post_init__(self):
        if self.paper.split(",")[0] not in PAPERS:
            raise ValueError(f"paper={self.paper!r} is none of {', '.join(PAPERS)}; name one of them")
        object.__setattr__(self, "verdict", Verdict(self.verdict))
        if self.interval is not None:
            object.__setattr__(self, "interval", tuple(map(float, self.interval)))

    def __repr__(self) -> str:
        return f"{self.verdict}: {self.text} Measured: {self.measured} ({self.paper}; {self.command})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `Claim(**values)` makes it again."""
        return asdict(self) | {"verdict": self.verdict.value}


def judged(allowed: tuple[float, float], interval: tuple[float, float], **words: str) -> Claim:
    """A claim that allows a range, judged by the interval of what was measured; `words` are the other fields."""
    return Claim(interval=interval, verdict=Verdict.of(interval, allowed), **words)


class Measured(NamedTuple):
    """What a claim's function returns: the measurement in words, its 95 % interval, and the verdict."""

    text: str
    interval: tuple[float, float] | None
    verdict: Verdict


@dataclass(frozen=True)
class ClaimTest:
    """A claim that has not been measured yet; calling it measures it."""

    name: str
    paper: str
    text: str
    measure: Callable[[], Measured]
    command: str
    """What measures it: `trainability claim`, or what wrote the numbers that it reads."""

    def __call__(self) -> Claim:
        found = self.measure()
        return Claim(
            name=self.name,
            paper=self.paper,
            text=self.text,
            measured=found.text,
            interval=found.interval,
            verdict=found.verdict,
            command=self.command,
        )


def claim(paper: str, text: str) -> Callable[[Callable[[], Measured]], ClaimTest]:
    """Make a function that measures a claim into a `ClaimTest`, named after the function."""

    def wrap(measure: Callable[[], Measured]) -> ClaimTest:
        name = measure.__name__.replace("_", "-")
        return ClaimTest(name, paper, text, measure, f"trainability claim {name}")

    return wrap


def claim_tests() -> Mapping[str, ClaimTest]:
    """All claims that stand by themselves, by name, in the order of the table."""
    found = {}
    for module in _MODULES:
        for thing in vars(import_module(f".{module}", __package__)).values():
            if isinstance(thing, ClaimTest):
                found[thing.name] = thing
    return found
