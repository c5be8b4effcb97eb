"""Dimension by window and over zooms, where it is known."""

import numpy as np
import pytest
import xarray as xr

from trainability import Grid, Status, linear_axis, log_axis
from trainability._contract import STATUS_ATTRS
from trainability.dimension_maps import join_zooms, local_dimension
from trainability.known_sets import weierstrass_graph


def test_rough_and_smooth_parts_are_told_apart():
    """The left half is a graph of dimension 1.7, the right a sloped line; windows of 64 scatter by about 0.05."""
    rough = weierstrass_graph(513, 0, dimension=1.7)
    x, y = np.indices((513, 513))
    found = local_dimension(np.where(x < 256, rough, y < 0.7 * x - 100))
    left = found["dimension"].sel(row=slice(0, 200)).values
    right = found["dimension"].sel(row=slice(320, None)).values
    assert np.nanmedian(left) == pytest.approx(1.7, abs=0.1)
    assert np.nanmedian(right) < 1.02
    assert np.isnan(left).any(), "windows without a boundary have no dimension"


def test_windows_stand_where_their_middles_are():
    grid = Grid(lr=log_axis(1e-2, 1e2, 128), mu=linear_axis(0, 2, 128))
    lr, mu = np.meshgrid(np.log10(grid["lr"]), grid["mu"], indexing="ij")
    status = np.where(lr + mu > 1, Status.DIVERGED, Status.CONVERGED).astype(np.int8)
    runs = xr.Dataset({"status": (("lr", "mu"), status, STATUS_ATTRS)}, coords=grid.coords())
    found = local_dimension(runs, window=32)
    assert found["dimension"].dims == ("lr", "mu")
    np.testing.assert_allclose(np.log10(found["lr"][:2]), [-2 + 4 * 16 / 128, -2 + 4 * 32 / 128], rtol=1e-12)
    np.testing.assert_allclose(found["mu"][0], 2 * 16 / 128, rtol=1e-12)
    on = np.isfinite(found["dimension"])
    far = abs(np.log10(found["lr"]) + found["mu"] - 1) > 1
    assert not (on & far).any()


def takagi_zoom(half, n=512, h=0.5, centre=0.3):
    """Map below the Takagi graph of dimension 1.5 around one of its points, `half` wide to each side."""
    x = centre + half * (2 * (np.arange(n) + 0.5) / n - 1)

    def height(t):
        total = np.zeros(np.shape(t))
        for k in range(60):
            p = 2.0**k * t % 1.0
            total = total + 2.0 ** (-k * h) * np.minimum(p, 1 - p)
        return total

    y = height(np.float64(centre)) + half**h * (2 * (np.arange(n) + 0.5) / n - 1)
    return xr.Dataset({"status": (("x", "y"), y[None] < height(x)[:, None])}, coords={"x": x, "y": y})


def test_zooms_join_to_one_dimension():
    """Zooms of a self-affine graph, frames scaled as it is: 1.5 within 3 standard errors + 0.02."""
    found = join_zooms([takagi_zoom(half) for half in (1e-1, 1e-2, 1e-3, 1e-4)])
    assert np.log10(found.offsets[-1] / found.offsets[0]) > 4
    assert found.value == pytest.approx(1.5, abs=3 * found.stderr + 0.02)
    slope = np.polyfit(np.log(found.offsets), np.log(found.fractions), 1)[0]
    assert 2 - slope == pytest.approx(found.value, abs=0.02)


def test_disagreeing_zooms_widen_the_error():
    smooth = takagi_zoom(0.1).copy()
    x = np.linspace(0, 1e-3, 512)
    smooth = xr.Dataset({"status": (("x", "y"), x[:, None] < 0.5 * x[None])}, coords={"x": x, "y": x})
    found = join_zooms([takagi_zoom(0.1), smooth])
    assert found.chi2 > 10
    assert found.stderr > np.sqrt(1 / (found.stderrs**-2).sum())


def test_bad_input():
    with pytest.raises(ValueError, match="window=16"):
        local_dimension(np.eye(64), window=16)
    one = takagi_zoom(0.1)
    with pytest.raises(ValueError, match="at least 2"):
        join_zooms([one])
    with pytest.raises(ValueError, match="dims"):
        join_zooms([one, one.transpose("y", "x")])
    with pytest.raises(ValueError, match="uneven"):
        join_zooms([one, one.assign_coords(x=np.geomspace(1, 1000, 512))])
