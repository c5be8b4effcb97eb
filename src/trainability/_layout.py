"""States and parameters laid out for the kernels: one column a pixel."""

from collections.abc import Callable, Mapping

import numpy as np

from ._checks import increasing
from ._map import Map


def as_columns(
    map: Map, u: np.ndarray, parameters: Mapping[str, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Lay states (..., d), and parameters that broadcast to (...), out as fresh (d, pixels) and (k, pixels)."""
    values = {**map.parameters, **(parameters or {})}
    shape = u.shape[:-1]
    columns = u.reshape(-1, map.d).T.copy()
    rows = [np.broadcast_to(np.asarray(v, dtype=float), shape).ravel() for v in values.values()]
    return columns, np.array(rows, dtype=float).reshape(len(rows), columns.shape[1])


def lay_out(
    map: Map | Callable[..., Map], axes: Mapping[str, np.ndarray], u0=None
) -> tuple[Map, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Spread a map over a grid of its parameters and variables.

    Returns the map, states (d, pixels) and parameters (k, pixels) in C order of the axes, and the
    checked coordinates.
    """
    map = map if isinstance(map, Map) else map()
    coords = {name: increasing(name, axes[name]) for name in axes}
    known = [*map.parameters, *map.variables]
    for name in coords:
        if name not in known:
            raise ValueError(
                f"axis {name!r} is neither parameter nor variable of {map.name}; it has {', '.join(known)}"
            )
    missing = [name for name in map.variables if name not in coords]
    if missing and u0 is None:
        raise ValueError(f"u0 is needed for {', '.join(missing)}, which is not an axis")
    start = map.check_states(np.zeros(map.d) if u0 is None else u0)
    mesh = dict(zip(coords, np.meshgrid(*coords.values(), indexing="ij"), strict=True))
    shape = tuple(len(c) for c in coords.values())
    u = np.stack(
        [np.broadcast_to(mesh.get(name, start[i]), shape) for i, name in enumerate(map.variables)], -1
    )
    columns, parameters = as_columns(map, u, {name: mesh[name] for name in map.parameters if name in mesh})
    return map, columns, parameters, coords
