"""The program, called as a shell would."""

import sys

import pytest
from typer.testing import CliRunner

from trainability import cli


def run(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)


def printed(*words):
    return run(*words).stdout


def main(monkeypatch, *words):
    """Exit code of the program as a shell sees it."""
    monkeypatch.setattr(sys, "argv", ["trainability", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code
