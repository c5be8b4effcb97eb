"""What a transformer's random initialization is made of, and the two exponents that judge it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

# Activations of the MLP sub-block; the last two are gated: (activation of the gate) x (linear).
ACTIVATIONS = ("tanh", "erf", "relu", "leaky_relu", "gelu", "silu", "identity", "swiglu", "geglu")
RESIDUALS = ("sqrt", "normed", "one")
NORMS = ("pre", "post")

# Below this a predicted exponent counts as zero: rounding of the closed forms, with a factor 1e3 to spare.
_ZERO = 1e-12
# A measured exponent within this many standard errors of zero is not told apart from it.
_SIGMAS = 2.0

# Names that model configurations use for the same thing, first found wins.
_CONFIG_NAMES = {
    "d_model": ("n_embd", "hidden_size", "d_model"),
    "n_heads": ("n_head", "num_attention_heads", "n_heads"),
    "n_layers": ("n_layer", "num_hidden_layers", "n_layers"),
    "d_mlp": ("n_inner", "intermediate_size", "d_mlp"),
    "n_tokens": ("block_size", "n_positions", "max_position_embeddings", "n_tokens"),
    "activation": ("activation_function", "hidden_act", "activation"),
    "std": ("initializer_range",),
}
# (gated, causal, norm, projections that enter the stream divided by sqrt(2 n_layers))
_STYLES = {
    "gpt2": (False, True, "pre", True),
    "nanogpt": (False, True, "pre", True),
    "llama": (True, True, "pre", False),
    "bert": (False, False, "post", False),
}
_CONFIG_STD = 0.02  # what all four families draw their weights with unless told otherwise
_CONFIG_ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu", "swish": "silu"}
_GATED = {"silu": "swiglu", "gelu": "geglu"}


@dataclass(frozen=True, kw_only=True)
class Initialization:
    """A randomly initialised transformer, as token geometry sees it.

    A block is an attention sub-block, x' = k x + alpha_attn Σ_j w_ij V y_j, and an MLP sub-block,
    x'' = k x' + alpha_mlp W₂ φ(W₁ y' + b), where y is x after layer normalisation. Weights are independent
    centred Gaussians; the scales below are gains, free of the width.

    Parameters
    ----------
    n_tokens : int
        Tokens that attend to each other, at least 2.
    alpha_attn, alpha_mlp : float
        Residual strengths: how much of each branch enters the stream. In [0, 1] where the skip is
        √(1 - alpha²), any number ≥ 0 where it is 1.
    sigma_attn : float
        Standard deviation of the attention logits between orthogonal tokens: W_Q and W_K have entry
        variance sigma_attn / d_model.
    sigma_mlp : float
        Gain of the MLP's first layer: entry variance sigma_mlp² / d_model. In a gated MLP, of both.
    activation : str, optional
        One of tanh, erf, relu, leaky_relu (slope 0.01), gelu, silu, identity, swiglu, geglu.
    sigma_value, sigma_out : float, optional
        Gains of the value path (V, or W_O W_V together) and of the MLP's second layer.
    sigma_bias : float, optional
        Standard deviation of the MLP's first bias.
    n_heads : int, optional
    causal : bool, optional
        Token i attends to tokens j ≤ i only.
    residual : {"sqrt", "normed", "one"}, optional
        The skip: √(1 - alpha²) times the stream; √(1 - alpha²) times the normalised stream; or 1.
    norm : {"pre", "post"}, optional
        Where layer normalisation stands: before each branch, or after each sum (BERT).
    d_model, d_mlp : int, optional
        Widths; only finite-width corrections and `weight_std` use them.

    Raises
    ------
    ValueError
        If a value is outside its range or a name is unknown; the error lists the known ones.

    Examples
    --------
    >>> init = Initialization(n_tokens=64, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.5)
    >>> init.with_values(sigma_mlp=2.0).sigma_mlp
    2.0
    """

    n_tokens: int
    alpha_attn: float
    alpha_mlp: float
    sigma_attn: float
    sigma_mlp: float
    activation: str = "tanh"
    sigma_value: float = 1.0
    sigma_out: float = 1.0
    sigma_bias: float = 0.0
    n_heads: int = 1
    causal: bool = False
    residual: str = "sqrt"
    norm: str = "pre"
    d_model: int | None = None
    d_mlp: int | None = None

    def __post_init__(self) -> None:
        check_name("activation", self.activation, ACTIVATIONS)
        check_name("residual", self.residual, RESIDUALS)
        check_name("norm", self.norm, NORMS)
        if self.norm == "post" and self.residual == "normed":
            raise ValueError(
                "residual='normed' says that the skip carries the normalised stream, and norm='post' that "
                "everything does: use residual='sqrt' with norm='post'"
            )
        for name in ("n_tokens", "n_heads", "d_model", "d_mlp"):
            value = getattr(self, name)
            least = 2 if name == "n_tokens" else 1
            if value is not None and (isinstance(value, bool) or value != int(value) or value < least):
                raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")
        for name in SCALES:
            check_scale(name, getattr(self, name), residual=self.residual)
        if self.d_model is not None and self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} is not a multiple of n_heads={self.n_heads}")

    def with_values(self, **values: Any) -> "Initialization":
        """Return the same initialization with other values.

        Raises
        ------
        ValueError
            If there is no field of that name; the error lists those there are.
        """
        for name in values:
            check_name("hyperparameter", name, tuple(f.name for f in fields(self)))
        return replace(self, **values)

    @property
    def gated(self) -> bool:
        """Whether the MLP multiplies its activation by a second linear layer."""
        return self.activation in _GATED.values()

    @property
    def normed_skip(self) -> bool:
        """Whether the skip carries the normalised stream, so that every sub-block resets the norm."""
        return self.norm == "post" or self.residual == "normed"

    @classmethod
    def from_std(
        cls,
        *,
        n_tokens: int,
        d_model: int,
        d_mlp: int,
        query: float,
        key: float,
        value: float,
        attn_out: float,
        mlp_in: float,
        mlp_out: float,
        **options: Any,
    ) -> "Initialization":
        """Read an initialization off the standard deviations of a standard transformer's weights.

        The stream's skip is taken to be 1 unless `options` (any other field of `Initialization`) say
        otherwise. Only alpha_attn x sigma_value and alpha_mlp x sigma_out matter to the forward and backward
        geometry then; they are returned as alpha_attn and alpha_mlp, with unit gains.

        Parameters
        ----------
        n_tokens, d_model, d_mlp : int
        query, key, value, attn_out, mlp_in, mlp_out : float
            Standard deviation of the entries of each matrix; logits are divided by the square root of
            the head's width.
        **options
            activation, n_heads, causal, residual, norm, sigma_bias.

        Examples
        --------
        >>> init = Initialization.from_std(n_tokens=64, d_model=100, d_mlp=400, query=0.1, key=0.1, value=0.1,
        ...                                attn_out=0.05, mlp_in=0.2, mlp_out=0.05, activation="gelu")
        >>> init.sigma_attn, init.alpha_attn, init.sigma_mlp, init.alpha_mlp
        (1.0, 0.5, 2.0, 1.0)
        """
        names = ("query", "key", "value", "attn_out", "mlp_in", "mlp_out")
        for name, std in zip(names, (query, key, value, attn_out, mlp_in, mlp_out), strict=True):
            check_scale(name, std)
        return cls(
            n_tokens=n_tokens,
            alpha_attn=_tidy(d_model * value * attn_out),
            alpha_mlp=_tidy(math.sqrt(d_mlp) * mlp_out),
            sigma_attn=_tidy(d_model * query * key),
            sigma_mlp=_tidy(math.sqrt(d_model) * mlp_in),
            d_model=d_model,
            d_mlp=d_mlp,
            **{"residual": "one", **options},
        )

    @classmethod
    def from_config(
        cls, config: Any, *, style: str = "gpt2", n_tokens: int | None = None
    ) -> "Initialization":
        """Read a model family's default initialization off its configuration.

        Parameters
        ----------
        config : object or mapping
            With the attributes of GPT-2 and nanoGPT (n_embd, n_head, n_layer, ...) or of Llama and BERT
            (hidden_size, num_attention_heads, ...). Missing widths of the MLP are 4 d_model, a missing
            `initializer_range` is 0.02.
        style : {"gpt2", "nanogpt", "llama", "bert"}, optional
            GPT-2 and nanoGPT divide the two projections into the stream by √(2 n_layers); Llama gates its
            MLP; BERT normalises after the sum and is not causal.
        n_tokens : int, optional
            Tokens of a sequence; the configuration's context length if left out.

        Examples
        --------
        >>> init = Initialization.from_config(
        ...     {"n_embd": 768, "n_head": 12, "n_layer": 12, "block_size": 1024}, style="nanogpt")
        >>> init.sigma_attn, round(init.alpha_attn, 4), round(init.sigma_mlp, 4), init.causal
        (0.3072, 0.0627, 0.5543, True)
        """
        check_name("style", style, tuple(_STYLES))
        gated, causal, norm, scaled = _STYLES[style]
        d_model, n_heads = (int(_from_config(config, name)) for name in ("d_model", "n_heads"))
        d_mlp = int(_from_config(config, "d_mlp", default=4 * d_model))
        std = float(_from_config(config, "std", default=_CONFIG_STD))
        into_stream = std / math.sqrt(2 * int(_from_config(config, "n_layers"))) if scaled else std
        activation = str(_from_config(config, "activation", default="silu" if gated else "gelu"))
        activation = _CONFIG_ACTIVATIONS.get(activation, activation)
        if gated:
            check_name("gate", activation, tuple(_GATED))
            activation = _GATED[activation]
        return cls.from_std(
            n_tokens=int(_from_config(config, "n_tokens")) if n_tokens is None else n_tokens,
            d_model=d_model,
            d_mlp=d_mlp,
            query=std,
            key=std,
            value=std,
            attn_out=into_stream,
            mlp_in=std,
            mlp_out=into_stream,
            activation=activation,
            n_heads=n_heads,
            causal=causal,
            norm=norm,
        )

    def weight_std(self, *, d_model: int | None = None, d_mlp: int | None = None) -> dict[str, float]:
        """Standard deviation of the entries of each weight matrix, the inverse of `from_std`.

        The residual strengths are folded into the projections that enter the stream; a skip other than 1
        is the model's own affair. The value path's gain is split evenly between W_V and W_O.

        Parameters
        ----------
        d_model, d_mlp : int, optional
            Left out, those of the initialization.

        Returns
        -------
        dict
            query, key, value, attn_out, mlp_in (in a gated MLP, of both layers), mlp_out, mlp_bias.

        Examples
        --------
        >>> init = Initialization(n_tokens=64, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.5)
        >>> init.weight_std(d_model=100, d_mlp=400)["mlp_out"]
        0.025
        """
        d_model, d_mlp = d_model or self.d_model, d_mlp or self.d_mlp
        if d_model is None or d_mlp is None:
            raise ValueError(f"weight_std needs the widths: d_model={d_model}, d_mlp={d_mlp}; pass them")
        query = math.sqrt(self.sigma_attn / d_model)
        value = math.sqrt(self.alpha_attn * self.sigma_value / d_model)
        return {
            "query": query,
            "key": query,
            "value": value,
            "attn_out": value,
            "mlp_in": self.sigma_mlp / math.sqrt(d_model),
            "mlp_out": self.alpha_mlp * self.sigma_out / math.sqrt(d_mlp),
            "mlp_bias": self.sigma_bias,
        }


# Strengths and scales of the branches.
SCALES = (
    "alpha_attn",
    "alpha_mlp",
    "sigma_attn",
    "sigma_mlp",
    "sigma_value",
    "sigma_out",
    "sigma_bias",
)


@dataclass(frozen=True, eq=False, repr=False)
class Exponents:
    """Angle and gradient exponent of a transformer, in nats per block.

    Parameters
    ----------
    angle : float
        Growth of the squared angle between tokens, log of ε'/ε with ε = 1 - cos. Negative: tokens
        collapse onto one direction (ordered); positive: similar tokens are driven apart (chaotic).
    gradient : float
        Growth of E‖∂L/∂x‖² from a block's output to its input. Positive: gradients explode.
    angle_stderr, gradient_stderr : float, optional
        Standard errors; 0 for a prediction.
    phase : str, optional
        In words; left out, read off the signs. An exponent within two standard errors of zero counts as zero.

    Examples
    --------
    >>> Exponents(-0.31, 0.08)
    Exponents(angle=-0.31, gradient=+0.08): ordered, exploding
    >>> Exponents(0.0102, -0.034, 0.0112, 0.002)
    Exponents(angle=+0.010±0.011, gradient=-0.0340±0.0020): edge of chaos, vanishing
    """

    angle: float
    gradient: float
    angle_stderr: float = 0.0
    gradient_stderr: float = 0.0
    phase: str = ""

    def __post_init__(self) -> None:
        for name in ("angle_stderr", "gradient_stderr"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or positive")
        if not self.phase:
            angles = ("ordered", "edge of chaos", "chaotic")[1 + _sign(self.angle, self.angle_stderr)]
            gradients = ("vanishing", "steady", "exploding")[1 + _sign(self.gradient, self.gradient_stderr)]
            object.__setattr__(self, "phase", f"{angles}, {gradients}")

    @property
    def depth_scales(self) -> tuple[float, float]:
        """Blocks over which the angle and the gradient change by a factor e, 1/|λ|; infinite at λ = 0."""
        angle, gradient = (1 / abs(x) if x else math.inf for x in (self.angle, self.gradient))
        return angle, gradient

    def __repr__(self) -> str:
        angle = _with_error(self.angle, self.angle_stderr)
        gradient = _with_error(self.gradient, self.gradient_stderr)
        return f"Exponents(angle={angle}, gradient={gradient}): {self.phase}"


def check_name(what: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise a `ValueError` listing the known names unless `value` is one of them."""
    if value not in known:
        raise ValueError(f"{what} {value!r} is unknown; known are {', '.join(known)}")


def check_scale(name: str, value: Any, *, residual: str = "one") -> None:
    """Raise a `ValueError` unless `value` is a finite number in the range of the scale `name`."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value} must be finite and at least 0")
    if name.startswith("alpha") and residual != "one" and value > 1:
        raise ValueError(
            f"{name}={value} must lie in [0, 1], because the skip is sqrt(1 - alpha²) with residual={residual!r}; "
            "use residual='one' for an unscaled skip"
        )


def _from_config(config: Any, name: str, *, default: Any = None) -> Any:
    get = config.get if isinstance(config, Mapping) else lambda key: getattr(config, key, None)
    for key in _CONFIG_NAMES[name]:
        if get(key) is not None:
            return get(key)
    if default is None:
        raise ValueError(f"the configuration has no {name}; looked for {', '.join(_CONFIG_NAMES[name])}")
    return default


def _tidy(x: float) -> float:
    """Drop the last digits, which a product of square roots leaves behind."""
    return float(f"{x:.14g}")


def _sign(value: float, stderr: float) -> int:
    if abs(value) <= max(_SIGMAS * stderr, _ZERO):
        return 0
    return 1 if value > 0 else -1


def _with_error(value: float, stderr: float) -> str:
    if stderr == 0 or not math.isfinite(stderr):
        return f"{value:+.2g}" if stderr == 0 else f"{value:+.2g}±{stderr}"
    digits = max(0, 1 - math.floor(math.log10(stderr)))
    return f"{value:+.{digits}f}±{stderr:.{digits}f}"
