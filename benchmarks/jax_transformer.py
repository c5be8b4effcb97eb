"""The transformer with layer norms before its branches and relu, in JAX: a contestant of the benchmark."""

import jax
import jax.numpy as jnp
import numpy as np

NORM_EPS = 1e-6


def views(model, row):
    return {p.name: row[p.start : p.stop].reshape(p.shape) for p in model.parameters}


def _norm(w, name, x):
    apart = x - x.mean(-1, keepdims=True)
    unit = apart * jax.lax.rsqrt((apart * apart).mean(-1, keepdims=True) + NORM_EPS)
    return unit * w[f"{name}.gain"] + w[f"{name}.shift"]


def _attention(model, w, at, y):
    def heads(name):
        return (y @ w[f"{at}{name}"]).reshape(*y.shape[:2], model.n_heads, -1)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = jnp.einsum("bqhw,bkhw->bhqk", query, key) * query.shape[-1] ** -0.5
    seen = np.tril(np.ones((model.window, model.window), bool))
    shares = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf))
    return jnp.einsum("bhqk,bkhw->bqhw", shares, value).reshape(y.shape) @ w[f"{at}attn_out"]


def loss(model, row, inputs, targets):
    """Mean cross-entropy of one member: row (n_parameters,), inputs and targets (example, window)."""
    w = views(model, row)
    x = w["embed"][inputs] + model.position_table.astype(row.dtype)
    for layer in range(model.n_layers):
        at = f"blocks.{layer}."
        x = x + _attention(model, w, at, _norm(w, f"{at}norm1", x))
        hidden = jax.nn.relu(_norm(w, f"{at}norm2", x) @ w[f"{at}mlp_in"] + w[f"{at}mlp_in_bias"])
        x = x + hidden @ w[f"{at}mlp_out"] + w[f"{at}mlp_out_bias"]
    logits = _norm(w, "norm_final", x) @ w["head"] + w["head_bias"]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1).mean()


def make_step(model, *, mapped):
    """One jitted step of Adam: (row, mean, square, t, lr, inputs, targets) -> the first three and the loss.

    With `mapped`, of many members: rows (member, n_parameters), learning rates (member,), one batch.
    """

    def step(row, mean, square, t, lr, inputs, targets):
        value, g = jax.value_and_grad(lambda r: loss(model, r, inputs, targets))(row)
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        unbias, root = 1 / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
        return row - lr * unbias * mean / (jnp.sqrt(square) * root + 1e-8), mean, square, value

    if mapped:
        step = jax.vmap(step, in_axes=(0, 0, 0, None, 0, None, None))
    return jax.jit(step, donate_argnums=(0, 1, 2))
