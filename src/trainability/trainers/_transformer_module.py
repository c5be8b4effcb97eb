"""The blocks of one member before training as torch modules, to measure their exponents with."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ._transformer_model import block, block_names, embedded
from .transformer import Transformer


class Block(nn.Module):
    """One block of a member: (example, token, d_model) in and out."""

    def __init__(self, trainer: Transformer, weights: Mapping[str, Tensor], strengths: tuple[Tensor, Tensor]):
        super().__init__()
        self.architecture, self.names = trainer.architecture, list(weights)
        for name, value in weights.items():
            self.register_parameter(name.replace(".", "_"), nn.Parameter(value.clone()))
        self.strengths = strengths

    def forward(self, x: Tensor) -> Tensor:
        w = {name: self.get_parameter(name.replace(".", "_")) for name in self.names}
        sizes = (1, *x.shape[:2])
        after = block(self.architecture, w, x.reshape(1, -1, x.shape[-1]), self.strengths, sizes)
        return after.view(x.shape)


def initial_blocks(
    trainer: Transformer, pixel: Mapping[str, float], *, n_windows: int
) -> tuple[nn.Sequential, Tensor]:
    """Blocks of one pixel as drawn, in double precision, and the stream that enters them, (n_windows, window, d)."""
    model = trainer.architecture
    row = torch.from_numpy(
        trainer.initial_weights({name: np.array([value]) for name, value in pixel.items()})
    )
    W = model.views(row)
    strengths = tuple(
        torch.tensor([[[float(pixel.get(name, getattr(trainer, name)))]]], dtype=torch.float64)
        for name in ("alpha_attn", "alpha_mlp")
    )
    blocks = nn.Sequential(
        *(
            Block(trainer, {name: W[f"blocks.{k}.{name}"] for name in block_names(model)}, strengths)
            for k in range(model.n_layers)
        )
    )
    inputs, _ = trainer.task.windows(trainer.task.test_starts[None, :n_windows])
    stream = embedded(model, W, torch.from_numpy(inputs))
    return blocks, stream.view(-1, model.window, model.d_model)
