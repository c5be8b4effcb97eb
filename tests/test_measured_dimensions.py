"""The page of measured dimensions is made from its data, and the command that measures runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import draw_conditions  # noqa: E402
import measure_conditions  # noqa: E402


def test_page_is_made_from_its_data():
    found = json.loads((ROOT / "src/trainability/data/measured_dimensions.json").read_text(encoding="utf8"))
    page = (ROOT / "docs/measured-dimensions.md").read_text(encoding="utf8")
    assert len(found) == 6
    assert draw_conditions.table(found) in page


def test_small_measurement_runs(tmp_path):
    pytest.importorskip("jax")
    data = tmp_path / "found.json"
    options = f"--out {tmp_path}/maps --data {data} --pixels 64 --stage train,measure --only"
    measure_conditions.main([*options.split(), "one point"])
    found = json.loads(data.read_text(encoding="utf8"))["one point"]
    assert found["full"]["pixels"] == found["zoom"]["pixels"] == 64
    assert 0 < found["full"]["trained"] < 1
    assert np.isfinite(found["frames"]["median_published_estimator"])
