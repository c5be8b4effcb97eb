"""`trainability validate` with two studies and three claims at sizes of seconds, for a process that is killed.

Writes a line to the file `trained` in its folder for every tile that it begins to train.
"""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from trainability import _filling, cli, study_adam, study_product_map, validation
from trainability.claims import claim_tests
from trainability.studies import STUDIES

CLAIMS = ("two-cycle-threshold", "deepest-rates-are-distinct", "critical-initializations")


def make_small(folder: Path) -> None:
    """Shrink the studies, leave few claims, and count tiles."""
    study_product_map._SIZES["quick"] = (24, 200, 8, 328, 8, 60, 10)
    plan = study_adam.PLANS["quick"]
    study_adam.PLANS["quick"] = replace(plan, pixels=6, n_steps=20, every=3, followed=2, times=2, windows=4)
    tests = claim_tests()
    validation.claim_tests = lambda: {name: tests[name] for name in CLAIMS}
    validation.STUDIES = {name: STUDIES[name] for name in ("product-map", "adam")}
    attempt = _filling._attempt

    def counted(trainer, pixels):
        tile = hashlib.sha256(repr((trainer.settings(), sorted(pixels))).encode())
        for values in pixels.values():
            tile.update(values.tobytes())
        with open(folder / "trained", "a") as file:
            file.write(tile.hexdigest() + "\n")
        return attempt(trainer, pixels)

    _filling._attempt = counted


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(exist_ok=True)
    make_small(out)
    sys.argv = ["trainability", "validate", "--out", str(out), "--json"]
    cli.main()
