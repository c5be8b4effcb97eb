"""Prompts of in-context regression: examples, a query and the label asked for."""

from dataclasses import dataclass

import numpy as np

from ._checks import finite


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt: n_examples pairs (x_i, y_i), a query x_q and its label y_q.

    Parameters
    ----------
    x : array_like, shape (n_examples, dim)
    y : array_like, shape (n_examples,)
    x_query : array_like, shape (dim,)
    y_query : float

    Raises
    ------
    ValueError
        If shapes disagree (the error says what was expected) or a number is not finite.

    Examples
    --------
    >>> prompt = Prompt(x=[[1.0], [2.0]], y=[1.0, 2.0], x_query=[3.0], y_query=3.0)
    >>> prompt.matrix
    array([[1., 2., 3.],
           [1., 2., 0.]])
    """

    x: np.ndarray
    y: np.ndarray
    x_query: np.ndarray
    y_query: float

    def __post_init__(self) -> None:
        x = np.asarray(self.x, dtype=float)
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"prompt x has shape {x.shape}; it needs (n_examples, dim), both at least 1")
        n, dim = x.shape
        for name, shape in (("x", (n, dim)), ("y", (n,)), ("x_query", (dim,)), ("y_query", ())):
            value = np.asarray(getattr(self, name), dtype=float)
            if value.shape != shape:
                raise ValueError(
                    f"prompt {name} has shape {value.shape}; with x of shape {x.shape} it needs {shape}"
                )
            finite(f"prompt {name}", value)
            object.__setattr__(self, name, float(value) if shape == () else value)

    @property
    def dim(self) -> int:
        """Dimension of an example's x."""
        return self.x.shape[1]

    @property
    def matrix(self) -> np.ndarray:
        """Prompt matrix, shape (dim + 1, n_examples + 1): columns (x_i; y_i), last column (x_q; 0)."""
        columns = np.column_stack([self.x.T, self.x_query])
        return np.vstack([columns, np.append(self.y, 0.0)])

    @property
    def moment(self) -> np.ndarray:
        """Mean of y_i x_i over the examples, shape (dim,): all that attention sees of them in the reduced model."""
        return self.y @ self.x / len(self.y)

    def flipped(self) -> "Prompt":
        """The prompt of the opposite task: the same x, every label with the other sign.

        Examples
        --------
        >>> Prompt([[1.0]], [2.0], [3.0], 6.0).flipped().y_query
        -6.0
        """
        return Prompt(self.x, -self.y, self.x_query, -self.y_query)


def random_prompt(n_examples: int, dim: int, *, seed: int, label_noise: float = 0.0) -> Prompt:
    """Draw a prompt of linear regression: x_i, x_q and the task w are N(0, I), labels are w·x plus noise.

    Parameters
    ----------
    n_examples, dim : int
    seed : int
    label_noise : float, optional
        Standard deviation of the noise on the examples' labels; the query's label is w·x_q.

    Examples
    --------
    >>> random_prompt(8, 3, seed=0).matrix.shape
    (4, 9)
    """
    if n_examples < 1 or dim < 1:
        raise ValueError(f"n_examples={n_examples} and dim={dim} must be at least 1")
    rng = np.random.default_rng(seed)
    x, x_query, w = rng.standard_normal((n_examples, dim)), rng.standard_normal(dim), rng.standard_normal(dim)
    y = x @ w + label_noise * rng.standard_normal(n_examples)
    return Prompt(x, y, x_query, float(x_query @ w))
