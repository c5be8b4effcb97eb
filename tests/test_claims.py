"""Claims carry their place, their verdict and their command."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from trainability import claims_product_map, claims_transformers
from trainability.claims import Claim, Measured, Verdict, claim, claim_tests
from trainability.studies import STUDIES


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


# Pages in theory/ derive these; the rest is what maps say.
PROVED = [
    test.name for test in claim_tests().values() if test.paper in ("arXiv:2605.21292", "arXiv:2403.02579")
]
LONG = ("mini-batch-escape", "collapse-without-mlp")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in PROVED]
)
def test_what_theory_proves_is_measured_so(name):
    assert claim_tests()[name]().verdict is Verdict.SUPPORTED


def test_a_threshold_that_is_claimed_wrongly_is_contradicted(monkeypatch):
    """The control: the same measurement beside thresholds that are off by a millionth."""
    wrong = {name: value + 1e-6 for name, value in claims_product_map.thresholds().items()}
    monkeypatch.setattr(claims_product_map, "thresholds", lambda: wrong)
    assert claim_tests()["four-cycle-threshold"]().verdict is Verdict.CONTRADICTED


def test_what_arithmetic_contradicts():
    for name in ("deepest-rates-are-distinct", "parameter-count", "median-slope-is-the-dimension"):
        assert claim_tests()[name]().verdict is Verdict.CONTRADICTED, name


def test_a_number_of_parameters_that_some_alphabet_gives_is_supported(monkeypatch):
    monkeypatch.setattr(claims_transformers, "PARAMETERS", 129 * 67 + 66_560)
    found = claim_tests()["parameter-count"]()
    assert found.verdict is Verdict.SUPPORTED
    assert "75,203 with 67 symbols" in found.measured


def traces(*, late: int, early: int) -> np.ndarray:
    """Losses over the first that fall to a tenth at the end of a run or at its beginning."""
    v = np.ones((late + early, 100))
    v[:late, 90:] = v[late:, 5:] = 0.1
    return v


@pytest.fixture
def runs(monkeypatch):
    """Runs of known outcome in place of trained ones: two data orders, twins that never part."""

    def put(outcomes, gap=0.0):
        converged = np.array(outcomes)
        trace = np.where(converged[..., None], traces(late=0, early=1)[0], 1.0)
        made = {"trace": trace, "converged": converged, "twin_trace": trace[:, :1] * (1 + gap)}
        made |= {"twin_converged": converged[:, :1]}
        monkeypatch.setattr(claims_transformers, "_runs", lambda: made)
        monkeypatch.setattr(claims_transformers, "ORDERS", converged.shape[1])
        monkeypatch.setattr(claims_transformers, "TWINS", 1)

    return put


ALL, NONE, MIXED = [True] * 6, [False] * 6, [True, True, False, True, False, True]


def test_a_boundary_is_seen_where_there_is_one(runs):
    runs([ALL, ALL, MIXED, MIXED, NONE, NONE])
    assert claim_tests()["transformer-has-a-boundary"]().verdict is Verdict.SUPPORTED
    runs([ALL] * 6)
    assert claim_tests()["transformer-has-a-boundary"]().verdict is Verdict.INCONCLUSIVE


def test_orders_that_disagree_contradict_and_few_that_agree_prove_nothing(runs):
    runs([ALL, ALL, MIXED, ALL, NONE, NONE])
    found = claim_tests()["rates-decide-the-outcome"]()
    assert found.verdict is Verdict.CONTRADICTED
    assert (
        "at 1 of 6 rates; at 0.055 67% converge, so that two orders differ with chance 0.53" in found.measured
    )
    runs([ALL, ALL, ALL, NONE, NONE, NONE])
    assert claim_tests()["rates-decide-the-outcome"]().verdict is Verdict.INCONCLUSIVE


def test_twins_that_part_contradict_structure_below_them(runs):
    runs([ALL] * 6, gap=0.01)
    assert claim_tests()["structure-at-float32-resolution"]().verdict is Verdict.CONTRADICTED
    runs([ALL] * 6)
    assert claim_tests()["structure-at-float32-resolution"]().verdict is Verdict.INCONCLUSIVE


def test_runs_that_converge_late_have_no_score(runs, monkeypatch):
    runs([ALL] * 6)
    assert claim_tests()["every-run-has-a-score"]().verdict is Verdict.SUPPORTED
    made = {"trace": traces(late=3, early=5)[None]}
    monkeypatch.setattr(claims_transformers, "_runs", lambda: made)
    found = claim_tests()["every-run-has-a-score"]()
    assert found.verdict is Verdict.CONTRADICTED
    assert found.measured.startswith("3 of 8 converged runs have none")


@pytest.mark.slow
def test_what_maps_say():
    """Verdicts that do not hang on the machine's last bits."""
    tests = claim_tests()
    for name in ("transformer-has-a-boundary", "structure-over-ten-decades", "linear-network-is-rough"):
        assert tests[name]().verdict is Verdict.SUPPORTED, name
    assert tests["dimension-is-not-that-of-noise"]().verdict is Verdict.CONTRADICTED


def test_the_table_in_the_documentation_has_the_claims_there_are():
    """Texts and commands; numbers may differ between machines. Those of the studies follow them."""
    page = (Path(__file__).parents[1] / "docs" / "claims.md").read_text(encoding="utf8")
    rows = re.findall(r"^\| (.*?) \| .* \| `([^`]+)` \|$", page, re.MULTILINE)
    alone = {(test.text, test.command) for test in claim_tests().values()}
    assert alone <= set(rows)
    assert {command for _, command in set(rows) - alone} == {
        f"trainability validate --study {name} --size quick" for name in STUDIES
    }
