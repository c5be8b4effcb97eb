"""The README's Python runs and its comments are true."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf8")


def test_ten_lines_run_and_say_what_the_comments_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    answers = {}
    namespace: dict = {}
    for line in code.splitlines():
        statement, _, comment = line.partition("  #")
        try:
            value = eval(statement, namespace)
        except SyntaxError:
            exec(statement, namespace)
            continue
        answers[statement.split("(")[0].strip()] = (value, comment.strip())
    value, comment = answers["tr.phase"]
    assert repr(value) == comment
    spectrum, comment = answers["tr.lyapunov_spectrum"]
    claimed, error = map(float, re.search(r"λ1 = ([\d.]+) ± ([\d.e-]+)", comment).groups())
    assert spectrum.exponents[0] == pytest.approx(claimed, abs=4 * error)
    assert spectrum.stderr[0] == pytest.approx(error, rel=0.5)
    assert answers["tr.compare"][0].agreement > 0.99


def test_files_it_names_exist():
    root = Path(__file__).parents[1]
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / name).exists(), name
