"""Maps of two outcomes on a square grid whose pixels are one unit wide."""

import numpy as np
import xarray as xr

from trainability import Grid, Status, linear_axis
from trainability._contract import STATUS_ATTRS

N = 64
GRID = Grid(x=linear_axis(0, N, N), y=linear_axis(0, N, N))
X, Y = np.meshgrid(GRID["x"], GRID["y"], indexing="ij")


def as_map(diverged, grid=GRID, **extra):
    status = np.where(diverged, Status.DIVERGED, Status.CONVERGED).astype(np.int8)
    dims = tuple(grid)
    data = {"status": (dims, status, STATUS_ATTRS), **{k: (dims, v) for k, v in extra.items()}}
    return xr.Dataset(data, coords=grid.coords())
