"""One transformer trained the plain way, by torch.nn and torch.optim: the oracle of the ensemble trainer."""

import math

import torch
from torch import nn
from torch.nn import functional

ACTIVATIONS = {"relu": nn.ReLU(), "gelu": nn.GELU(), "tanh": nn.Tanh(), "identity": nn.Identity()}


class Block(nn.Module):
    def __init__(self, d, d_mlp, trainer):
        super().__init__()
        self.trainer = trainer
        self.query, self.key, self.value, self.attn_out = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.mlp_in, self.mlp_out = nn.Linear(d, d_mlp), nn.Linear(d_mlp, d)
        if trainer.norm != "none":
            self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)

    def attention(self, y):
        def heads(x):
            return x.unflatten(-1, (self.trainer.n_heads, -1)).transpose(1, 2)

        query, key, value = heads(self.query(y)), heads(self.key(y)), heads(self.value(y))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.trainer.causal)
        return self.attn_out(mixed.transpose(1, 2).flatten(2))

    def mlp(self, y):
        return self.mlp_out(ACTIVATIONS[self.trainer.activation](self.mlp_in(y)))

    def forward(self, x, alphas):
        for number, (branch, alpha) in enumerate(
            zip((self.attention, self.mlp), alphas, strict=True), start=1
        ):
            y = x
            if self.trainer.norm == "pre":
                y = getattr(self, f"norm{number}")(x)
            skip = y if self.trainer.residual == "normed" else x
            if self.trainer.residual != "one":
                skip = math.sqrt(1 - alpha**2) * skip
            x = skip + alpha * branch(y)
            if self.trainer.norm == "post":
                x = getattr(self, f"norm{number}")(x)
        return x


class PlainTransformer(nn.Module):
    def __init__(self, trainer):
        super().__init__()
        d, task = trainer.d_model, trainer.task
        self.trainer = trainer
        self.embed = (
            nn.Embedding(task.n_inputs, d) if task.discrete else nn.Linear(task.n_inputs, d, bias=False)
        )
        self.blocks = nn.ModuleList(
            Block(d, trainer.d_mlp or 2 * d, trainer) for _ in range(trainer.n_layers)
        )
        self.norm_final = nn.LayerNorm(d, eps=1e-6) if trainer.norm == "pre" else nn.Identity()
        self.head = nn.Linear(d, task.n_outputs)

    def forward(self, inputs, alphas):
        x = self.embed(inputs)
        place = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
        rate = 10_000 ** (-torch.arange(0, x.shape[2], 2, dtype=x.dtype) / x.shape[2])
        x = x + torch.stack([torch.sin(place * rate), torch.cos(place * rate)], -1).flatten(1)
        for block in self.blocks:
            x = block(x, alphas)
        return self.head(self.norm_final(x))


def load(model, row, architecture):
    """Write one member's parameters into the modules."""
    with torch.no_grad():
        for p in architecture.parameters:
            value = torch.tensor(row[p.start : p.stop]).reshape(p.shape)
            name = p.name.replace(".gain", ".weight").replace(".shift", ".bias")
            if name.endswith("_bias"):
                name = name.removesuffix("_bias") + ".bias"
            elif not name.endswith((".weight", ".bias")):
                name += ".weight"
            target = model.get_parameter(name)
            is_table = name == "embed.weight" and isinstance(model.embed, nn.Embedding)
            target.copy_(value if is_table or value.ndim == 1 else value.T)


def groups_of(model, trainer, pixel):
    """Parameter groups of torch.optim, with the learning rates of one pixel."""
    kinds = {
        "embed": "embed", "query": "attn", "key": "attn", "value": "attn", "attn_out": "attn", "mlp_in": "mlp",
        "mlp_out": "mlp", "norm1": "norm", "norm2": "norm", "norm_final": "norm", "head": "head",
    }  # fmt: skip
    if trainer.grouping == "attention":
        attention = ("query", "key", "value", "attn_out", "norm1")
        kinds = {name: "attn" if name in attention else "rest" for name in kinds}
    groups: dict[str, list] = {}
    for name, parameter in model.named_parameters():
        module = next(part for part in name.split(".") if part in kinds)
        groups.setdefault(kinds[module], []).append(parameter)
    base = pixel.get("lr", trainer.lr)
    return [{"params": ps, "lr": pixel.get(f"lr_{group}", base)} for group, ps in groups.items()]


def make_optimizer(groups, trainer, pixel):
    def value(name):
        return pixel.get(name, getattr(trainer, name))

    if trainer.optimizer in ("sgd", "momentum"):
        momentum = value("momentum") if trainer.optimizer == "momentum" else 0.0
        return torch.optim.SGD(groups, momentum=momentum, weight_decay=value("weight_decay"))
    make = torch.optim.Adam if trainer.optimizer == "adam" else torch.optim.AdamW
    betas = (value("beta1"), value("beta2"))
    return make(groups, betas=betas, eps=value("eps"), weight_decay=value("weight_decay"))


def task_loss(output, targets, task):
    scored = torch.from_numpy(task.scored)
    output, targets = output[:, scored], targets[:, scored]
    if task.discrete:
        return functional.cross_entropy(output.flatten(0, 1), targets.flatten())
    return functional.mse_loss(output[..., 0], targets)


def train(trainer, pixel):
    """Losses before each step of one pixel, {name: number}, and the loss on held-out windows at the end."""
    dtype = getattr(torch, trainer.dtype)
    model = PlainTransformer(trainer).to(dtype)
    load(
        model,
        trainer.initial_weights({k: [v] for k, v in pixel.items()} or {"lr": [trainer.lr]})[0],
        trainer.architecture,
    )
    optimizer = make_optimizer(groups_of(model, trainer, pixel), trainer, pixel)
    warmup, clip = (pixel.get(name, getattr(trainer, name)) for name in ("warmup", "clip"))
    rates = [group["lr"] for group in optimizer.param_groups]
    alphas = [pixel.get(name, getattr(trainer, name)) for name in ("alpha_attn", "alpha_mlp")]
    order = trainer.batches(
        **{k: int(pixel.get(k, getattr(trainer, k))) for k in ("order_seed", "batch_size", "rounding_seed")}
    )

    def loss_on(starts):
        inputs, targets = (torch.from_numpy(a) for a in trainer.task.windows(starts))
        if not trainer.task.discrete:
            inputs, targets = inputs.to(dtype), targets.to(dtype)
        return task_loss(model(inputs, alphas), targets, trainer.task)

    seen = []
    for step, starts in enumerate(order):
        loss = loss_on(starts)
        seen.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / warmup) if warmup else rate
        optimizer.step()
    with torch.no_grad():
        return seen, float(loss_on(trainer.task.test_starts))
