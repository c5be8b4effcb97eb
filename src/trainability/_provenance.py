"""Where a result comes from: the package's version and commit."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def provenance() -> dict[str, str]:
    """Version of the package and, when it runs from a git checkout, the commit ("+changes" if it differs)."""
    from trainability import __version__

    return {"package_version": __version__, "commit": _commit(Path(__file__).resolve().parent)}


def _commit(folder: Path) -> str:
    def git(*words: str) -> str:
        run = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10)
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        # An ignored folder, such as a virtual environment inside someone else's checkout, is not ours.
        if not git("ls-files", "--", "maps.py"):
            return "unknown"
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
