"""Small torch models that several tests measure."""

import warnings

import torch
from torch import nn


class NanoBlock(nn.Module):
    """Block in the style of nanoGPT: layer norm before each branch, a fused query-key-value layer."""

    def __init__(self, d_model, n_heads, causal=True):
        super().__init__()
        self.n_head, self.causal = n_heads, causal
        self.ln_1, self.ln_2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attn, self.mlp = nn.Module(), nn.Module()
        self.attn.c_attn, self.attn.c_proj = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.attn.n_head = n_heads
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)
        self.mlp.gelu = nn.GELU()

    def forward(self, x):
        heads = self.attn.c_attn(self.ln_1(x)).unflatten(2, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*heads, is_causal=self.causal)
        x = x + self.attn.c_proj(attended.transpose(1, 2).flatten(2))
        return x + self.mlp.c_proj(self.mlp.gelu(self.mlp.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    def __init__(self, *, d_model=64, n_layers=6, n_heads=4, vocabulary=50, n_positions=32, causal=True):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, d_model), nn.Embedding(n_positions, d_model)
        self.drop = nn.Dropout(0.1)
        self.h = nn.ModuleList(NanoBlock(d_model, n_heads, causal) for _ in range(n_layers))
        self.ln_f = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocabulary)

    def forward(self, ids):
        x = self.drop(self.wte(ids) + self.wpe.weight[: ids.shape[1]])
        for block in self.h:
            x = block(x)
        return self.head(self.ln_f(x))


def encoder(*, d_model=64, n_layers=6, norm_first=False, activation="relu", copies=False, batch_first=True):
    """`nn.TransformerEncoder`; its layers start as copies of one unless drawn apart."""
    layer = nn.TransformerEncoderLayer(
        d_model, 4, 2 * d_model, norm_first=norm_first, activation=activation, batch_first=batch_first
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a fast path that it will not take
        model = nn.TransformerEncoder(layer, n_layers)
    if not copies:
        draw_default(model)
    return model


def draw_default(model):
    """Draw every layer of a torch model as torch does on construction."""
    for module in model.modules():
        for name in ("_reset_parameters", "reset_parameters"):
            if hasattr(module, name):
                getattr(module, name)()


def draw_unit_gain(model):
    """Draw all matrices with entry variance 1 / fan_in and no biases, a `reinit` for any model."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, 0, parameter.shape[1] ** -0.5)


def hugging_face(name, *, d_model=64, n_layers=3, **options):
    """GPT2Model, LlamaModel or BertModel from a configuration of 100 words."""
    import transformers

    transformers.logging.set_verbosity_error()
    shared = {"vocab_size": 100, **options}
    if name == "GPT2Model":
        config = transformers.GPT2Config(
            n_embd=d_model,
            n_layer=n_layers,
            n_head=4,
            n_positions=64,
            bos_token_id=0,
            eos_token_id=0,
            **shared,
        )
    else:
        shared |= {"hidden_size": d_model, "intermediate_size": 2 * d_model, "num_attention_heads": 4}
        shared |= {"num_hidden_layers": n_layers}
        if name == "LlamaModel":
            shared |= {"num_key_value_heads": 2}
        config = getattr(transformers, name.replace("Model", "Config"))(**shared)
    return getattr(transformers, name)(config)


def ids(batch=4, n_tokens=12, vocabulary=50, seed=0):
    return torch.randint(0, vocabulary, (batch, n_tokens), generator=torch.Generator().manual_seed(seed))


def vectors(batch=4, n_tokens=12, d_model=64, seed=0):
    return torch.randn(batch, n_tokens, d_model, generator=torch.Generator().manual_seed(seed))
