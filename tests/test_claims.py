"""Claims carry their place, their verdict and their command."""

import json

import pytest

from trainability.claims import Claim, Measured, Verdict, claim


def a_claim(**changes):
    values = {
        "name": "x",
        "paper": "arXiv:2605.21292, section 3",
        "text": "A holds.",
        "measured": "1.0",
        "interval": (0.9, 1.1),
        "verdict": "supported",
        "command": "trainability claim x",
    }
    return Claim(**values | changes)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.0, 1.0), "supported"),
        ((0.2, 0.3), "supported"),
        ((-0.1, 0.5), "inconclusive"),
        ((0.5, 1.1), "inconclusive"),
        ((-1, 2), "inconclusive"),
        ((1.01, 1.1), "contradicted"),
        ((-2, -0.01), "contradicted"),
    ],
)
def test_verdict_follows_from_where_the_interval_lies(interval, verdict):
    assert Verdict.of(interval, (0.0, 1.0)) == verdict


def test_there_are_four_verdicts():
    assert {v.value for v in Verdict} == {"supported", "contradicted", "inconclusive", "out of reach here"}
    with pytest.raises(ValueError, match="maybe"):
        a_claim(verdict="maybe")


def test_claim_names_one_of_the_papers():
    with pytest.raises(ValueError, match=r"paper='arXiv:1' is none of arXiv:2605"):
        a_claim(paper="arXiv:1")


def test_claim_survives_json():
    there = a_claim()
    assert Claim(**json.loads(json.dumps(there.as_dict()))) == there


def test_a_function_becomes_a_claim_with_its_command():
    @claim("arXiv:2605.21292", "One is one.")
    def one_is_one():
        return Measured("1", None, Verdict.of((1, 1), (1, 1)))

    found = one_is_one()
    assert (found.name, found.command) == ("one-is-one", "trainability claim one-is-one")
    assert found.verdict is Verdict.SUPPORTED
