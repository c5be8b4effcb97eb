"""Validation: one report of studies and claims, which goes on where it was interrupted."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import trainability as tr
from trainability import _results, cli, validation

sys.path.insert(0, str(Path(__file__).parent))
import toy_study


@pytest.fixture
def toy(monkeypatch):
    toy_study.register(monkeypatch)
    monkeypatch.setattr(toy_study, "SECONDS", 0.0)


def test_report_is_one_file_without_references_to_others(tmp_path, toy):
    """Whatever a browser could fetch: sources, links, styles, scripts, fonts, refreshes."""
    found = tr.validate(studies=["toy"], out=tmp_path)
    page = found.report.read_text(encoding="utf-8")
    assert found.report == tmp_path / "report.html"
    fetched = re.findall(r'(?:src|href|srcset|action|data|poster)\s*=\s*"([^"]*)"', page)
    assert {where.split(",")[0] for where in fetched if not where.startswith("#")} == {
        "data:image/png;base64"
    }
    assert not re.search(r"url\(|@import|<script|<link|<iframe|http-equiv|https?://", page)
    assert (tmp_path / "figures" / "toy-map.png").stat().st_size > 500


def test_report_holds_question_answer_tables_claims_and_provenance(tmp_path, toy):
    page = tr.validate(studies=["toy"], out=tmp_path).report.read_text(encoding="utf-8")
    for text in (
        "Does it diverge?",
        "<strong>Yes</strong>",
        "The toy's map.".replace("'", "&#39;"),
        "<td>200</td>",
        "Steps &lt;above&gt; 2/h diverge",
        "1.9 to 2.1",
        '<span class="verdict supported">supported</span>',
        "trainability validate --study toy",
        tr.__version__,
        "numpy",
        "torch",
    ):
        assert text in page, text
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    table = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert (
        "diverge \\| always. | 2.0 | 1.9 to 2.1 | **supported** | `trainability validate --study toy` |"
        in table
    )


def test_a_finished_study_is_read_back_as_it_was(tmp_path, toy):
    first = tr.validate(studies=["toy"], out=tmp_path)
    again = tr.validate(studies=["toy"], out=tmp_path)
    assert len(list(tmp_path.glob("ran-*"))) == 1
    one, other = first.studies["toy"], again.studies["toy"]
    for name in ("title", "question", "answer", "settings", "claims", "notes"):
        assert getattr(one, name) == getattr(other, name)
    for name, runs in one.runs.items():
        assert runs.identical(other.runs[name])
    assert one.tables["Counts"].equals(other.tables["Counts"])
    assert again.claims == first.claims
    assert repr(again).endswith(f"1 claims: 1 supported\n\nreport: {tmp_path / 'report.html'}")


def test_a_changed_package_runs_it_again_from_the_stored_maps(tmp_path, toy, monkeypatch):
    tr.validate(studies=["toy"], out=tmp_path)
    trained = len(list((tmp_path / "calls").iterdir()))
    monkeypatch.setattr(_results, "_package", lambda: "another")
    tr.validate(studies=["toy"], out=tmp_path)
    assert len(list(tmp_path.glob("ran-*"))) == 2
    assert len(list((tmp_path / "calls").iterdir())) == trained


@pytest.mark.parametrize("moment", ["in the first map", "in the second map", "in the report"])
def test_killed_at_any_moment_it_goes_on(tmp_path, toy, moment):
    """After the kill no tile is trained that was there, and the result is that of a run nobody disturbed."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    calls = killed / "calls"
    reached = {
        "in the first map": lambda: calls.exists() and len(list(calls.iterdir())) >= 2,
        "in the second map": lambda: calls.exists() and len(list(calls.iterdir())) >= 8,
        "in the report": lambda: (killed / "ran-0").exists(),
    }[moment]
    process = subprocess.Popen(
        [sys.executable, toy_study.__file__, str(killed)], start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "report.html").exists()

    found = tr.validate(studies=["toy"], out=killed)
    assert len(list(calls.iterdir())) <= 13  # 12 tiles; the one that was in hand is trained again
    undisturbed = tr.validate(studies=["toy"], out=whole)
    for name, runs in undisturbed.studies["toy"].runs.items():
        assert runs.identical(found.studies["toy"].runs[name])
    assert (killed / "report.html").read_bytes() == (whole / "report.html").read_bytes()


def test_claims_alone_are_measured_once_and_kept(tmp_path, monkeypatch):
    measured = []

    def a_claim():
        measured.append(1)
        return tr.Claim(
            name="x",
            paper="arXiv:2403.02579",
            text="A.",
            measured="1",
            interval=None,
            verdict="inconclusive",
            command="c",
        )

    monkeypatch.setattr(validation, "STUDIES", {})
    monkeypatch.setattr(validation, "claim_tests", lambda: {"x": a_claim})
    first = tr.validate(out=tmp_path)
    assert tr.validate(out=tmp_path).claims == first.claims
    assert len(measured) == 1
    assert "1 claims: 1 inconclusive" in repr(first)


def test_bad_arguments_are_named_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="size='small' is none of quick"):
        tr.validate(size="small", out=tmp_path / "a")
    with pytest.raises(ValueError, match="study 'y' is unknown; there are"):
        tr.validate(studies=["y"], out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        tr.validate(studies=[], out=tmp_path / "file" / "x")


def test_command_line_prints_the_answer(tmp_path, toy):
    words = ["validate", "--study", "toy", "--out", str(tmp_path)]
    text = CliRunner().invoke(cli.app, words, catch_exceptions=False).stdout
    assert "A toy: **Yes**" in text
    assert "report.html" in text
    answer = json.loads(CliRunner().invoke(cli.app, [*words, "--json"], catch_exceptions=False).stdout)
    assert answer["claims"][0]["verdict"] == "supported"
    assert Path(answer["report"]).exists()
