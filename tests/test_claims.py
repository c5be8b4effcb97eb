"""Claims carry their place, their verdict and their command."""

import json
import re
from pathlib import Path

import pytest

from trainability import claims_product_map
from trainability.claims import Claim, Measured, Verdict, claim, claim_tests


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


@pytest.mark.parametrize(
    "name", [name for name in claim_tests() if name not in ("mini-batch-escape", "collapse-without-mlp")]
)
def test_what_theory_proves_is_measured_so(name):
    """The pages in theory/ derive these claims; a measurement that says otherwise is wrong."""
    assert claim_tests()[name]().verdict is Verdict.SUPPORTED


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mini-batch-escape", "collapse-without-mlp"])
def test_what_theory_proves_is_measured_so_in_more_time(name):
    assert claim_tests()[name]().verdict is Verdict.SUPPORTED


def test_a_threshold_that_is_claimed_wrongly_is_contradicted(monkeypatch):
    """The control: the same measurement beside thresholds that are off by a millionth."""
    wrong = {name: value + 1e-6 for name, value in claims_product_map.thresholds().items()}
    monkeypatch.setattr(claims_product_map, "thresholds", lambda: wrong)
    assert claim_tests()["four-cycle-threshold"]().verdict is Verdict.CONTRADICTED


def test_the_table_in_the_documentation_lists_the_claims_there_are():
    """Names, texts and commands; numbers may differ between machines."""
    page = (Path(__file__).parents[1] / "docs" / "claims.md").read_text(encoding="utf8")
    rows = re.findall(r"^\| `([\w-]+)` \| (.*?) \| .* \| `([^`]+)` \|$", page, re.MULTILINE)
    assert rows == [(test.name, test.text, test.command) for test in claim_tests().values()]
