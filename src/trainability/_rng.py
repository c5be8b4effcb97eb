"""Random streams: one for each purpose, so that drawing more of one thing leaves the others as they were."""

import zlib

import numpy as np


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of `purpose` ("weights", "data", "batches", ...) for a seed.

    Examples
    --------
    >>> bool(stream(0, "weights").random() == stream(0, "data").random())
    False
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])
