"""Ensembles of transformers by the engine that trains them, and their training."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from .._threads import one_thread
from ._optimizer_kernels import arrays_of, descend, numbers_of
from ._transformer_kernel import train
from ._transformer_layout import ACTIVATIONS, layout_of, scratch_of, table_of
from ._transformer_torch import DIVERGED, Ensemble, Run

# Numbers of the windows that are cut from the data at a time.
_BLOCK = 2**15


class VectorEnsemble(Ensemble):
    """An ensemble whose losses, gradients and steps are vector code, member after member.

    Derivatives of the gradient are taken by autograd, as in `Ensemble`.
    """

    def __init__(self, run: Run, values: Mapping[str, np.ndarray], orders: Sequence[np.ndarray]):
        super().__init__(run, values, orders)
        model = run.model
        self.at = layout_of(model, run.dtype, self.orders.shape[2])
        self.scratch, self.table = (
            scratch_of(self.at, run.dtype, model.position_table),
            table_of(model, self.at),
        )
        alphas = np.stack([values["alpha_attn"], values["alpha_mlp"]], axis=1)
        skips = np.ones_like(alphas) if model.residual == "one" else np.sqrt(1 - alphas * alphas)
        self.numbers = np.stack([alphas, skips], axis=2).reshape(self.n, 4).astype(run.dtype)

    def loss_and_gradient(self, inputs, targets, W=None) -> tuple[torch.Tensor, torch.Tensor]:
        gradient = torch.empty_like(self.W)
        return self._losses(inputs, targets, self.W if W is None else W, gradient), gradient

    def losses(self, inputs, targets) -> torch.Tensor:
        return self._losses(inputs, targets, self.W, self.W.new_empty(self.n, 0))

    def _losses(self, inputs, targets, W, gradient) -> torch.Tensor:
        """Losses of the members at W, and their gradients in `gradient` if it has a place for them."""
        arrays = arrays_of(self.optimizer, W.contiguous(), gradient, self.memory)
        read, told = (x[:, None].numpy() for x in (inputs, targets))
        most, running = np.empty(self.n), np.ones(self.n, bool)
        return self._train(read, told, np.arange(self.n), arrays, most, running, range(0))[:, 0]

    def _train(self, inputs, targets, order_of, arrays, most, running, steps: range) -> torch.Tensor:
        """Losses (member, step), and with `steps`, the first being number 1, these steps."""
        losses = np.empty((self.n, max(1, len(steps))))
        *method, arrays = arrays
        train(
            self.scratch, self.at, self.table, self.numbers, inputs, targets, order_of, self.run.task.scored,
            tuple(method), arrays, numbers_of(self.optimizer, steps), most, running, losses,
        )  # fmt: skip
        return torch.from_numpy(losses)

    def _step(self, t: int, gradient: torch.Tensor, running: torch.Tensor) -> None:
        descend(self.optimizer, t, self.W, gradient, self.memory, running)

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        n_steps, size = self.run.n_steps, max(1, _BLOCK // self.orders[0, 0].size // self.run.model.window)
        running = np.ones(self.n, bool)
        arrays = arrays_of(self.optimizer, self.W, torch.empty_like(self.W), self.memory)
        most = DIVERGED * self.losses(*self.batch(0)).numpy()
        for start in range(0, n_steps, size):
            stop = min(start + size, n_steps)
            read, told = self.run.task.windows(self.orders[:, start:stop])
            steps = range(start + 1, stop + 1)
            yield start, self._train(read, told, self.order_of, arrays, most, running, steps)
            if not running.any():
                return


def lacks(run: Run) -> str:
    """What of a run the vector code cannot do; nothing if it can do all."""
    if run.device != "cpu":
        return f"device={run.device!r}"
    if run.autocast:
        return "autocast=True"
    if not run.model.discrete:
        return f"task {run.task.name!r}, whose tokens are vectors"
    return "" if run.model.activation in ACTIVATIONS else f"activation={run.model.activation!r}"


def ensembles(
    run: Run, values: Mapping[str, np.ndarray], orders: Sequence[np.ndarray], members: int
) -> Iterator[tuple[int, Ensemble]]:
    """Cut pixels into ensembles; yield where each begins.

    Those of torch all have one size, the last padded with its last pixel.
    """
    n = len(orders)
    vector = run.engine == "vector"
    kind = VectorEnsemble if vector else Ensemble
    for i in range(0, n, members):
        chosen = range(i, min(i + members, n)) if vector else [min(k, n - 1) for k in range(i, i + members)]
        yield i, kind(run, {k: v[list(chosen)] for k, v in values.items()}, [orders[k] for k in chosen])


def train_ensembles(
    run: Run, values: Mapping[str, np.ndarray], orders: Sequence[np.ndarray], *, members: int
) -> tuple[np.ndarray, np.ndarray]:
    """Train n members; losses before each step, (n, n_steps), inf from divergence on, and test losses, (n,)."""
    n = len(orders)
    seen = np.full((n, run.n_steps), np.inf)
    test = np.empty(n)
    with one_thread(), torch.no_grad():
        for i, ensemble in ensembles(run, values, orders, members):
            for step, losses in ensemble.blocks():
                seen[i : i + members, step : step + losses.shape[1]] = losses[: n - i].cpu().numpy()
            held_out = ensemble.test_loss(orders[0].shape[1]).cpu().numpy()
            test[i : i + members] = held_out[: n - i]
    test[~(np.isfinite(seen[:, -1]) & np.isfinite(test))] = np.inf
    return seen, test
