"""Small fully connected networks, one a pixel, trained by gradient descent near the machine's limit."""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from .._checks import count_runs, device_is_there, whole
from .._rng import stream
from ._mlp_arrays import checked_batches, checked_data, checked_weights, digest
from ._mlp_ensemble import train_ensembles
from ._mlp_observables import OBSERVABLES, observables
from ._mlp_problem import Problem, flops, problem, reduced
from ._mlp_tangent import finite_time_exponents
from ._readout import SLOTS

ACTIVATIONS = ("tanh", "relu", "identity")
OFFSET_MODES = ("once", "per_step")
ENGINES = ("auto", "vector", "numpy", "torch")

# Hyperparameters are double precision numbers; from here on they skip whole ones.
MOST_WHOLE = 2.0**53

_OPTIONAL = ("lr_in", "lr_hidden", "lr_out", "batch_size")


@dataclass(frozen=True, eq=False, kw_only=True)
class MLP:
    """Trainer of a fully connected network without biases, in mean-field parameterisation.

    Hidden layers are z = h W / √(rows of W), h' = φ(z) with φ = tanh(√2 z), √2 relu(z) or z; the output is
    h w / width. Gradient descent on the mean squared error with a learning rate a layer. Weights, inputs and
    targets are drawn from N(0, 1); `data`, `weights` and `batches` replace the draws.

    `n_steps` losses are seen, each of all of the data, the first before any step is taken.

    Parameters
    ----------
    width : int
        Units of each hidden layer.
    depth : int
        Hidden layers, at least 1.
    activation : {"tanh", "relu", "identity"}
    n_inputs : int, optional
        As many as `width` by default.
    n_data : int, optional
        Rows of data; by default as many as weights, or as inputs for the linear network ("identity"). Both are
        settled when the trainer is made: `replace(trainer, width=8, n_inputs=None, n_data=None)` settles them anew.
    n_steps : int
    lr, lr_in, lr_hidden, lr_out : float
        Learning rates: of the first layer, of those between hidden layers, and of the output. Those left at
        None are `lr`. Like all that follow to `seed`, used where it is not an axis.
    offset : float
        Added to every weight of the first layer, as `offset_mode` says.
    weight_scale : float
        Multiplies the initial weights of all layers.
    momentum, weight_decay : float
        A step is m = momentum m + gradient + weight_decay W, W -= lr m.
    batch_size : int, optional
        Rows drawn for each step's gradient, with replacement; by default all of them, once each.
    seed : int
        Of weights, data and batches, three streams of their own.
    offset_mode : {"once", "per_step"}
        "once" adds the offset to the initial weights; "per_step" adds it before every step, the first
        included, so that it accumulates, as the released code of the reference does.
    data : tuple of array_like, optional
        Inputs (n_data, n_inputs) and targets (n_data,).
    weights : sequence of array_like, optional
        (n_inputs, width), then depth - 1 of (width, width), then (width, 1).
    batches : array_like of int, optional
        Rows of each step's gradient, (n_steps, batch_size).
    dtype : {"float64", "float32"}
        Single precision is for previews of wide windows: in a zoom, neighbouring pixels become one number.
    reduce : bool
        Use the exact smaller forms of a linear network and of few rows of data.
    early_exit : bool
        End runs whose losses can no longer come back below the cap. Changes no observable.
    engine : {"auto", "vector", "numpy", "torch"}
        "vector" are compiled kernels with a pixel in each lane of the vector registers; the others are batched
        matrix products, slower. "auto" takes the first that works here.
    device : str
        Of the torch engine.
    threads : int
        Of the vector kernels. Changes no bit.

    Raises
    ------
    ValueError
        If a size is not positive, a batch larger than the data, a number not finite, a name unknown, the device of
        the torch engine absent, or the shapes of arrays disagree; the error states what is expected.

    Notes
    -----
    Observables are of v = loss / first loss, capped at 1e6, where a loss that is not finite counts as the cap.
    Pixels of one seed and one batch size train side by side; an axis of many seeds leaves lanes idle.

    A run is ended early when an output weight is not finite: subtraction leaves it so, and every later output,
    a sum with a product of it, is not finite either, nor is the loss. All later v are the cap, known exactly.
    Large but finite losses are no such proof: runs that converge have been seen to pass 1e15 times the first.

    References
    ----------
    Sohl-Dickstein, The boundary of neural network trainability is fractal, arXiv:2402.06184.

    Examples
    --------
    >>> trainer = MLP(width=8, n_steps=200)
    >>> runs = trainer({"lr_in": np.array([1.0, 1e3]), "lr_out": np.array([1.0, 1e5])})
    >>> trainer.status(runs)
    array([1, 2], dtype=int8)
    """

    width: int = 16
    depth: int = 1
    activation: str = "tanh"
    n_inputs: int | None = None
    n_data: int | None = None
    n_steps: int = 500
    lr: float = 1.0
    lr_in: float | None = None
    lr_hidden: float | None = None
    lr_out: float | None = None
    offset: float = 0.0
    weight_scale: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int | None = None
    seed: int = 0
    offset_mode: str = "once"
    data: tuple[Any, Any] | None = None
    weights: tuple[Any, ...] | None = None
    batches: Any = None
    dtype: str = "float64"
    reduce: bool = True
    early_exit: bool = True
    engine: str = "auto"
    device: str = "cpu"
    threads: int = 1

    hyperparameters: ClassVar[tuple[str, ...]] = (
        "lr",
        "lr_in",
        "lr_hidden",
        "lr_out",
        "offset",
        "weight_scale",
        "momentum",
        "weight_decay",
        "batch_size",
        "seed",
    )
    observables: ClassVar[dict[str, tuple[str, str]]] = OBSERVABLES

    def __post_init__(self) -> None:
        for name, value, known in (
            ("activation", self.activation, ACTIVATIONS),
            ("offset_mode", self.offset_mode, OFFSET_MODES),
            ("dtype", self.dtype, ("float64", "float32")),
            ("engine", self.engine, ENGINES),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; use {', '.join(known)}")
        whole(1, width=self.width, depth=self.depth, n_steps=self.n_steps, threads=self.threads)
        sizes = {"n_inputs": self.n_inputs, "n_data": self.n_data}
        whole(1, **{name: size for name, size in sizes.items() if size is not None})
        if self.device != "cpu" and self.engine != "torch":
            raise ValueError(f"device={self.device!r} needs engine='torch', not {self.engine!r}")
        if self.engine == "torch":
            device_is_there(self.device)
        for name in self.hyperparameters:
            value = getattr(self, name)
            if not (isinstance(value, int | float | np.number) or (value is None and name in _OPTIONAL)):
                raise ValueError(
                    f"{name}={value!r} must be a number; to vary it, make it an axis of the grid"
                )
        self._take_arrays()
        self._complete({"lr": np.array([self.lr])})

    def _take_arrays(self) -> None:
        """Settle the sizes, check the arrays handed in against them, and keep the arrays as floats."""

        def settle(**values):
            for name, value in values.items():
                object.__setattr__(self, name, value)

        if self.data is not None:
            x, y = checked_data(self.data, n_data=self.n_data, n_inputs=self.n_inputs)
            settle(data=(x, y), n_data=x.shape[0], n_inputs=x.shape[1])
        if self.n_inputs is None:
            settle(n_inputs=self.width)
        if self.n_data is None:
            n_weights = sum(math.prod(shape) for shape in self._shapes)
            settle(n_data=self.n_inputs if self.activation == "identity" else n_weights)
        if self.weights is not None:
            settle(weights=checked_weights(self.weights, self._shapes))
        if self.batches is not None:
            rows = checked_batches(
                self.batches, n_steps=self.n_steps, n_data=self._sizes[0], batch_size=self.batch_size
            )
            settle(batches=rows, batch_size=rows.shape[1])

    @property
    def _sizes(self) -> tuple[int, int]:
        """Rows and inputs of the data, settled when the trainer is made."""
        return self.n_data or 0, self.n_inputs or 0

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        return [(self._sizes[1], self.width), *[(self.width, self.width)] * (self.depth - 1), (self.width, 1)]

    def settings(self) -> dict[str, Any]:
        """Everything a pixel depends on besides its hyperparameters, as JSON values; arrays by their digests."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("threads", "early_exit"):  # neither changes a bit
            del own[name]
        for name in ("data", "weights", "batches"):
            if own[name] is not None:
                own[name] = digest(own[name] if isinstance(own[name], tuple) else (own[name],))
        return {**own, "engine": self._engine()}

    def draw(self, seed: int, batch_size: int | None = None) -> Problem:
        """Data, initial weights and batches of one seed, as trained before any reduction.

        Examples
        --------
        >>> whole = MLP(width=4).draw(seed=0, batch_size=8)
        >>> whole.x.shape, [w.shape for w in whole.weights], whole.batches.shape
        ((20, 4), [(4, 4), (4, 1)], (500, 8))
        """
        if self.data is None:
            numbers = stream(seed, "data")
            x = numbers.standard_normal(self._sizes)
            y = numbers.standard_normal(len(x))
        else:
            x, y = self.data
        numbers = stream(seed, "weights")
        weights = self.weights or tuple(numbers.standard_normal(shape) for shape in self._shapes)
        batches = np.empty((self.n_steps, 0), np.int64)
        if batch_size:
            batches = self.batches
            if batches is None:
                batches = stream(seed, "batches").integers(len(x), size=(self.n_steps, batch_size))
        return problem(x, y, weights, activation=self.activation, batches=batches)

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Train n pixels: hyperparameters (n,) in, observables (n,) out."""
        kept, _ = self._train(pixels, trace=False)
        return observables(kept, n_steps=self.n_steps)

    def trace(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Losses of every step of n pixels, shape (n, n_steps); not finite where they overflowed.

        In a reduced form the rounding is not that of the map, which chaotic runs can tell.

        Examples
        --------
        >>> losses = MLP(width=8, n_steps=5).trace({"lr": np.array([1.0, 2.0])})
        >>> losses.shape, bool((np.diff(losses) < 0).all())
        ((2, 5), True)
        """
        return self._train(pixels, trace=True)[1]

    def lyapunov_exponents(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Finite-time Lyapunov exponents of n training runs, shape (n,), in nats per step.

        Mean growth of a small random change of all weights over the n_steps - 1 steps of a run, or over those
        before it overflows (NaN if there is none): positive where a change of a last digit decides the outcome.
        Propagated by the derivative of the step itself, in double precision and by NumPy matrix products whatever
        the engine, so about ten times slower than the map.

        Examples
        --------
        >>> exponents = MLP(width=4, n_steps=50).lyapunov_exponents({"lr": np.array([0.1, 300.0])})
        >>> [bool(e > 0.01) for e in exponents]
        [False, True]
        """
        hyper, kinds = self._hyper(pixels)
        found = np.empty(len(hyper))
        for seed, batch_size in np.unique(kinds[:, :2], axis=0):
            mine = (kinds[:, :2] == (seed, batch_size)).all(axis=1)
            numbers = stream(int(seed), "change")
            found[mine] = finite_time_exponents(
                self.draw(int(seed), int(batch_size) or None),
                hyper[mine],
                [numbers.standard_normal(shape) for shape in self._shapes],
                activation=self.activation,
                per_step=self.offset_mode == "per_step",
                n_steps=self.n_steps,
            )
        return found

    def flops_per_run(self) -> float:
        """Floating-point operations of a run that is not ended early, in the form that it is trained in.

        Counted are multiplications and additions of matrix products, as is usual: activations, updates and the loss
        come on top.

        Examples
        --------
        >>> MLP().flops_per_run() / 500  # 272 rows; forward and backward 272 weights, and the output's slope
        304640.0
        """
        whole = self.draw(self.seed, None if self.batch_size is None else int(self.batch_size))
        small = reduced(whole, activation=self.activation) if self.reduce else whole
        if self._engine() != "vector" or self.momentum or self.weight_decay:
            small = dataclasses.replace(small, form="general")
        return flops(small, n_steps=self.n_steps)

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """Converged where the mean of the last 20 v is below 1, diverged where v ended at the cap, or undecided."""
        converged = np.asarray(observables["tail_ratio"]) < 1
        diverged = np.asarray(observables["diverged_step"]) >= 0
        return np.where(diverged, 2, np.where(converged, 1, 3)).astype(np.int8)

    def _complete(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fill in the trainer's own values for hyperparameters that are not axes; check all of them."""
        n = count_runs(pixels, self.hyperparameters)
        full: dict[str, np.ndarray] = {}
        for name in self.hyperparameters:
            value = pixels.get(name, getattr(self, name))
            if value is None:
                value = full["lr"] if name != "batch_size" else 0
            full[name] = np.broadcast_to(np.asarray(value, dtype=float), n)
            if not np.isfinite(full[name]).all():
                raise ValueError(f"{name} must be finite; found {full[name][~np.isfinite(full[name])][0]}")
        whole = {"seed": 0}
        if "batch_size" in pixels or self.batch_size is not None:
            whole["batch_size"] = 1
        for name, least in whole.items():
            bad = (full[name] != np.floor(full[name])) | (full[name] < least) | (full[name] >= MOST_WHOLE)
            if bad.any():
                raise ValueError(
                    f"{name}={full[name][bad][0]:.16g} must be a whole number, at least {least} and below 2**53"
                )
        if (full["batch_size"] > self._sizes[0]).any():
            raise ValueError(
                f"batch_size={full['batch_size'].max():g} is more than the {self.n_data} rows of data"
            )
        if self.batches is not None and (full["batch_size"] != self.batches.shape[1]).any():
            raise ValueError(
                f"batch_size cannot be an axis: batches are given, {self.batches.shape[1]} rows a step"
            )
        return full

    def _hyper(self, pixels: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Hyperparameters in the kernels' order, (n, 7), and seed, batch size and memory, (n, 3)."""
        full = self._complete(pixels)
        names = ("lr_in", "lr_hidden", "lr_out", "offset", "weight_scale", "momentum", "weight_decay")
        hyper = np.stack([full[name] for name in names], axis=-1)
        # Runs with memory take another kernel, so a pixel's bits must not depend on whether others have it.
        memory = (full["momentum"] != 0) | (full["weight_decay"] != 0)
        kinds = np.stack([full["seed"], full["batch_size"], memory], axis=-1).astype(np.int64)
        return hyper, kinds

    def _train(self, pixels, *, trace: bool) -> tuple[np.ndarray, np.ndarray]:
        """What the kernels keep, (SLOTS, n), and the losses, (n, n_steps) or empty."""
        hyper, kinds = self._hyper(pixels)
        kept = np.empty((SLOTS, len(hyper)))
        losses = np.empty((len(hyper), self.n_steps if trace else 0))
        for kind in np.unique(kinds, axis=0):
            seed, batch_size, _ = kind
            mine = np.flatnonzero((kinds == kind).all(axis=1))
            whole = self.draw(int(seed), int(batch_size) or None)
            small = reduced(whole, activation=self.activation) if self.reduce else whole
            train = self._train_vectors if self._engine() == "vector" else self._train_ensembles
            kept[:, mine], losses[mine] = train(small, hyper[mine], trace)
        return kept, losses

    def _train_vectors(self, problem: Problem, hyper: np.ndarray, trace: bool):
        from ._mlp_vector import train_vectors

        return train_vectors(
            problem,
            hyper,
            activation=ACTIVATIONS.index(self.activation),
            per_step=self.offset_mode == "per_step",
            early_exit=self.early_exit,
            n_steps=self.n_steps,
            dtype=self.dtype,
            threads=self.threads,
            trace=trace,
        )

    def _train_ensembles(self, problem: Problem, hyper: np.ndarray, trace: bool):
        return train_ensembles(
            problem,
            hyper,
            activation=self.activation,
            per_step=self.offset_mode == "per_step",
            early_exit=self.early_exit,
            n_steps=self.n_steps,
            engine=self._engine(),
            dtype=self.dtype,
            device=self.device,
            trace=trace,
        )

    def _engine(self) -> str:
        if self.engine != "auto":
            return self.engine
        return "vector" if _vectors_work() else "numpy"


@cache
def _vectors_work() -> bool:
    """Whether the vector kernels compile and train here; warns once if they do not."""
    from numba.core.errors import NumbaError

    try:
        MLP(width=1, n_steps=1, engine="vector")({"lr": np.ones(1)})
    except (NumbaError, RuntimeError) as error:  # what numba and LLVM raise where the code is not for them
        warnings.warn(
            f"the vector kernels do not compile here ({type(error).__name__}: {error}); training by matrix "
            "products, several times slower",
            stacklevel=2,
        )
        return False
    return True
