"""A training step of a small network in JAX's own way: grad of the loss, mapped over pixels."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from trainability.trainers import MLP

jax.config.update("jax_enable_x64", True)

ACTIVATIONS = {
    "tanh": lambda z: jnp.tanh(jnp.sqrt(2.0) * z),
    "relu": lambda z: jnp.sqrt(2.0) * jax.nn.relu(z),
    "identity": lambda z: z,
}


class JaxMLP:
    """Step and scan of one trainer's network, compiled for every number of pixels they meet."""

    def __init__(self, trainer: MLP):
        drawn = trainer.draw(0, trainer.batch_size)
        x, y, self.weights = jnp.array(drawn.x), jnp.array(drawn.y), [jnp.array(w) for w in drawn.weights]
        width, phi, batched = (
            len(self.weights[1]),
            ACTIVATIONS[trainer.activation],
            trainer.batch_size is not None,
        )
        self.batches = jnp.array(drawn.batches) if batched else jnp.zeros((trainer.n_steps, 1), int)

        def loss(weights, inputs, targets):
            h = phi(inputs @ weights[0] / jnp.sqrt(inputs.shape[1]))
            return jnp.mean((h @ weights[1][:, 0] / width - targets) ** 2)

        def step(weights, pixel, rows):
            if trainer.offset_mode == "per_step":
                weights = [weights[0] + pixel["offset"], weights[1]]
            if batched:
                value, gradients = loss(weights, x, y), jax.grad(loss)(weights, x[rows], y[rows])
            else:
                value, gradients = jax.value_and_grad(loss)(weights, x, y)
            rates = pixel["lr_in"], pixel["lr_out"]
            return [w - r * g for w, r, g in zip(weights, rates, gradients, strict=True)], value

        def scan(weights, pixel, batches):
            return jax.lax.scan(lambda w, rows: step(w, pixel, rows), weights, batches)[1]

        self.step = jax.jit(jax.vmap(step, in_axes=(0, 0, None)))
        self.scan = jax.jit(jax.vmap(scan, in_axes=(0, 0, None)))

    def contestant(
        self, pixels: Mapping[str, np.ndarray], *, size: int, scan: bool, n_steps: int
    ) -> tuple[Callable[[], None], int]:
        """Training of all pixels in batches of `size`, and the pixel-steps that it stands for."""
        n = len(next(iter(pixels.values())))
        full = {name: pixels.get(name, pixels.get("lr", np.zeros(n))) for name in ("lr_in", "lr_out")}
        full["offset"] = pixels.get("offset", np.zeros(n))

        def run() -> None:
            for i in range(0, n, size):
                batch = {name: jnp.asarray(values[i : i + size]) for name, values in full.items()}
                weights = [jnp.repeat(w[None], len(batch["offset"]), axis=0) for w in self.weights]
                if scan:
                    jax.block_until_ready(self.scan(weights, batch, self.batches[:n_steps]))
                    continue
                for k in range(n_steps):
                    weights, value = self.step(weights, batch, self.batches[k])
                jax.block_until_ready((weights, value))

        return run, n * n_steps
