"""`trainability validate` on studies that train, killed where chance has it: it goes on, and says the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SMALL = Path(__file__).parent / "small_validation.py"
KILLS = 3


def start(folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, SMALL, folder], start_new_session=True, stdout=subprocess.DEVNULL
    )


def trained(folder: Path) -> list[str]:
    """Tiles begun so far, each time that they were."""
    file = folder / "trained"
    return file.read_text(encoding="ascii").split() if file.exists() else []


@pytest.mark.slow
def test_killed_at_random_it_trains_nothing_twice_and_says_the_same(tmp_path):
    assert start(tmp_path / "whole").wait() == 0
    tiles = trained(tmp_path / "whole")
    assert len(set(tiles)) == len(tiles) > KILLS
    out = tmp_path / "killed"
    rng = np.random.default_rng(0)
    for reached in sorted(rng.choice(np.arange(1, len(tiles)), KILLS, replace=False)):
        process = start(out)
        while len(trained(out)) < reached and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 1))  # in a tile, between two, or in what follows a study
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start(out).wait() == 0
    assert set(trained(out)) == set(tiles)
    assert len(trained(out)) <= len(tiles) + KILLS  # a tile in hand is begun again
    assert (out / "report.html").read_bytes() == (tmp_path / "whole" / "report.html").read_bytes()
    assert (out / "claims.md").read_bytes() == (tmp_path / "whole" / "claims.md").read_bytes()
