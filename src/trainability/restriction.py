"""A map on one of its invariant linear subspaces, in that subspace's own coordinates."""

from collections.abc import Sequence

import numpy as np

from ._map import Map, symbols_of


def restrict(map: Map, basis: Sequence[Sequence[float]]) -> Map:
    """Restrict a map to a linear subspace that it maps into itself.

    With the basis vectors as columns of B, the new map is y -> B⁺ f(B y) in the coordinates y of
    u = B y. That the subspace is invariant is checked in symbols, so it holds for every parameter value.

    Parameters
    ----------
    map : Map
        One whose step is known in symbols (`Map.expressions`).
    basis : sequence of k vectors of length d
        Linearly independent; their entries are taken as the rational numbers they print as.

    Returns
    -------
    Map
        In k variables ``y1, …, yk`` and the same parameters. Its multipliers are those within the subspace.

    Raises
    ------
    ValueError
        If the basis does not fit, is not independent, the map has no symbolic form, or the subspace is
        not invariant; the last error shows what leaves it.

    Notes
    -----
    A linear subspace that is mapped into itself contains whole orbits, so cycles, branches and
    certificates found for the restricted map are those of the full map. A degenerate direction across
    the subspace is gone: the minima ab = mu of the product map form a curve of fixed points, but on the
    balanced slice a = b each of them is isolated.

    Examples
    --------
    >>> from trainability.maps import product_map
    >>> balanced = restrict(product_map(1.1), [[1, 1]])
    >>> balanced.expressions
    (y1*(mu - y1**2 + 1),)
    >>> balanced([0.5])
    array([0.925])
    """
    import sympy as sp

    vectors = np.atleast_2d(np.asarray(basis, dtype=float))
    if vectors.ndim != 2 or vectors.shape[1] != map.d:
        raise ValueError(f"basis has shape {vectors.shape}; {map.name} needs vectors of length {map.d}")
    if not np.isfinite(vectors).all() or np.linalg.matrix_rank(vectors) < len(vectors):
        raise ValueError("basis must hold finite, linearly independent vectors")
    if not map.expressions:
        raise ValueError(f"{map.name} has no symbolic form, so a subspace cannot be shown to be invariant")

    columns = sp.Matrix([[sp.nsimplify(x, rational=True) for x in row] for row in vectors.tolist()]).T
    y = sp.symbols(f"y1:{len(vectors) + 1}", real=True)
    old, p = symbols_of(map)
    image = sp.Matrix(map.expressions).xreplace(dict(zip(old, columns * sp.Matrix(y), strict=True)))
    coordinates = (columns.T * columns).inv() * columns.T * image
    for name, rest in zip(map.variables, sp.simplify(image - columns * coordinates), strict=True):
        if rest != 0:
            raise ValueError(f"the subspace is not invariant under {map.name}: {name}' leaves it by {rest}")

    step = tuple(sp.factor_terms(sp.simplify(new)) for new in coordinates)
    jacobian = tuple(tuple(sp.diff(new, x) for x in y) for new in step)
    return Map(
        sp.lambdify([y, p], step, modules="math", cse=True),
        sp.lambdify([y, p], jacobian, modules="math", cse=True),
        variables=tuple(x.name for x in y),
        parameters=map.parameters,
        name=f"{map.name} on span{{{', '.join(str(tuple(columns.col(j))) for j in range(len(y)))}}}",
        derived_from=step,
    )
