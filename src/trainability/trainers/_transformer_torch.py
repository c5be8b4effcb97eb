"""Training by torch: ensembles of one fixed shape, forward by batched products, backward by autograd.

For every device and precision; derivatives of the training loss are taken with it too.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ._optimizers import Optimizer
from ._transformer_model import Architecture, losses
from .tasks import Task

# Activations of an ensemble that keep a core busy and stay near its caches: members x examples x tokens x width.
# Measured flat between 1e5 and 5e5 for widths 16 to 64; small ensembles waste less on padding.
_SWEET_SPOT = 130_000
_MOST_MEMBERS = 32

# Share of the free memory that an ensemble may take.
_MEMORY_SHARE = 0.8

# A loss that is not finite, or above this multiple of the first, ends a run.
DIVERGED = 1e6


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all members of a tile share."""

    model: Architecture
    task: Task
    optimizer: str
    groups: Mapping[str, tuple[str, ...]]
    n_steps: int
    dtype: str
    device: str
    autocast: bool
    engine: str

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def in_double(self) -> "Run":
        """The same in double precision."""
        return replace(self, dtype="float64", autocast=False)

    def precision(self):
        """The context that forward passes run in."""
        if not self.autocast:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)

    def member_bytes(self, batch_size: int) -> int:
        """Memory of one member: its activations, four copies of its parameters; measured to about a third."""
        m = self.model
        block = 14 * m.d_model + 4 * m.d_mlp + 5 * m.n_heads * m.window
        token = m.n_layers * block + 6 * m.d_model + 4 * m.n_outputs
        numbers = batch_size * m.window * token + 8 * m.n_parameters
        return numbers * (8 if self.dtype == "float64" else 4)

    def members(self, asked: int | None, batch_size: int) -> int:
        """Members of an ensemble: as asked for, if they fit, or a number that keeps the device busy.

        Raises
        ------
        ValueError
            If the ensemble does not fit into the free memory.
        """
        each, free = self.member_bytes(batch_size), _MEMORY_SHARE * free_memory(self.device)
        fit = int(free // each)
        if asked is not None and asked <= fit:
            return asked
        if asked is not None or fit < 1:
            raise ValueError(
                f"members={asked or 1}: the ensemble needs about {(asked or 1) * each / 2**30:.2g} GiB, and "
                f"{free / 2**30:.2g} GiB of {self.device} are free for it; "
                + (f"{fit} members fit" if fit else "make the batch or the model smaller")
            )
        if torch.device(self.device).type != "cpu":
            return min(fit, 4096)
        best = _SWEET_SPOT // (batch_size * self.model.window * self.model.d_model)
        return int(np.clip(best, 1, min(fit, _MOST_MEMBERS)))


def free_memory(device: str) -> int:
    """Bytes free on a device."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0]
    try:
        with open("/proc/meminfo") as lines:
            return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**63  # not Linux: let the allocator say


class Ensemble:
    """Members of one fixed number and batch size: their parameters, batches and optimizer."""

    def __init__(self, run: Run, values: Mapping[str, np.ndarray], orders: Sequence[np.ndarray]):
        self.run, self.values, self.n = run, values, len(values["seed"])
        self.orders, self.order_of = _distinct(orders)
        self.W = self._tensor(run.model.initial(values))
        self.strengths = tuple(
            self._tensor(values[name])[:, None, None] for name in ("alpha_attn", "alpha_mlp")
        )
        scored = run.task.scored
        self.scored = None if scored.all() else torch.from_numpy(scored).to(run.device)
        self.optimizer = Optimizer(run.optimizer, values, self.of_groups("lr_{}"))
        self.memory = self.optimizer.memory()

    def of_groups(self, form: str) -> torch.Tensor:
        """Values named after the parameter groups, as "lr_{}", dealt out to the parameters: (member, parameter)."""
        index = self.run.model.group_index(self.run.groups)
        values = np.stack([self.values[form.format(group)] for group in self.run.groups], axis=1)
        return self._tensor(np.take(values, index, axis=1))  # one member's values side by side

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=self.run.torch_dtype, device=self.run.device)

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of a step, (member, example, window) each."""
        return self.windows(self.orders[:, step])

    def windows(self, starts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of windows of each distinct order, dealt out to the members."""
        inputs, targets = (torch.from_numpy(a) for a in self.run.task.windows(starts))
        if not self.run.task.discrete:
            inputs, targets = inputs.to(self.run.torch_dtype), targets.to(self.run.torch_dtype)
        place = torch.from_numpy(self.order_of)
        return inputs[place].to(self.run.device), targets[place].to(self.run.device)

    def loss(self, W: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of each member at parameters (member, parameter)."""
        with self.run.precision():
            model = self.run.model
            return losses(model, model.views(W), inputs, targets, self.scored, self.strengths)

    def loss_and_gradient(self, inputs, targets, W=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses (member,) and their gradients (member, parameter), at the parameters or at W."""
        model, W = self.run.model, self.W if W is None else W
        # A leaf for each tensor: the gradient of a slice would fill a whole row for each of them.
        leaves = {name: view.detach().requires_grad_() for name, view in model.views(W).items()}
        with torch.enable_grad(), self.run.precision():
            loss = losses(model, leaves, inputs, targets, self.scored, self.strengths)
            total = loss.sum()
        gradients = torch.autograd.grad(total, list(leaves.values()))
        return loss.detach(), torch.cat([g.flatten(1) for g in gradients], dim=1)

    def losses(self, inputs, targets) -> torch.Tensor:
        """Loss of each member at its parameters."""
        return self.loss(self.W, inputs, targets)

    def test_loss(self, examples: int) -> torch.Tensor:
        """Mean loss over the held-out windows, taken `examples` at a time."""
        starts = self.run.task.test_starts
        total = torch.zeros(self.n, dtype=torch.float64, device=self.run.device)
        for i in range(0, len(starts), examples):
            part = starts[i : i + examples]
            every = np.tile(part, (len(self.orders), 1))
            total += len(part) * self.losses(*self.windows(every)).double()
        return total / len(starts)

    def at_precision(self, run: Run) -> "Ensemble":
        """The same members, at their present parameters, in the precision of `run`; not to be trained."""
        twin = copy(self)
        twin.run, twin.W = run, self.W.to(run.torch_dtype)
        twin.strengths = tuple(a.to(run.torch_dtype) for a in self.strengths)
        return twin

    def steps(self) -> Iterator[torch.Tensor]:
        """Train; yield the losses before each step. Members that have diverged stay as they are."""
        running = torch.ones(self.n, dtype=torch.bool, device=self.run.device)
        first: Any = None
        for step in range(self.run.n_steps):
            loss, gradient = self.loss_and_gradient(*self.batch(step))
            first = loss if first is None else first
            running = running & (loss <= DIVERGED * first)  # False where it is not a number
            yield torch.where(running, loss, torch.inf)
            if not running.any():
                return
            self._step(step + 1, gradient, running)

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Train; yield the number of a step, and the losses before it and some that follow it, (member, step)."""
        for step, loss in enumerate(self.steps()):
            yield step, loss[:, None]

    def _step(self, t: int, gradient: torch.Tensor, running: torch.Tensor) -> None:
        """Step number t of the members that run."""
        W, self.memory = self.optimizer.step(t, self.W, gradient, self.memory)
        self.W = torch.where(running[:, None], W, self.W)

    def states(self, *, until: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Train; yield the number of steps taken, 0 … until, and which members still run."""
        running = torch.ones(self.n, dtype=torch.bool, device=self.run.device)
        for step, loss in enumerate(self.steps()):
            running = loss.isfinite()
            yield step, running
            if step == until:
                return
        if running.any():
            yield self.run.n_steps, running


def _distinct(orders: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct batch orders, (order, step, example), and the number of each member's."""
    seen: dict[int, int] = {}
    kept: list[np.ndarray] = []
    for order in orders:
        if id(order) not in seen:
            seen[id(order)] = len(kept)
            kept.append(order)
    return np.stack(kept), np.array([seen[id(order)] for order in orders])
