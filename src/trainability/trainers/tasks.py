"""What sequence models are trained on: text by characters, and synthetic tasks that take a minute."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np

from .._checks import whole
from .._rng import stream

# Share of a text, at its end, that is held out, and most windows of it that a test loss is the mean over.
HELD_OUT, TEST_WINDOWS = 0.1, 256

# The synthetic text: pseudo-words, successors of each, chance of taking one of them (see `synthetic_text`).
_WORDS, _SUCCESSORS, _FOLLOW = 64, 4, 0.8


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """Windows of a stream of tokens, in each of which the next token is to be told at the scored positions.

    A window that starts at s has the inputs stream[s : s + window]; the target of each is the token after it. Of a
    stream of vectors, the target is the last component of the next one, and the loss its squared error; of a
    stream of symbols the loss is the cross-entropy, in nats.

    Parameters
    ----------
    name : str
    stream : ndarray of int, shape (n,), or of float, shape (n, n_inputs)
    starts, test_starts : ndarray of int
        Where windows start: for training, and held out.
    scored : ndarray of bool, shape (window,)
        Positions at which the next token is to be told.
    n_inputs : int
        Symbols, or components of a vector.
    symbols : str
        The character of each symbol, where there is one.

    Raises
    ------
    ValueError
        If there is no window to train on or to test on, or none of its positions is scored.
    """

    name: str
    stream: np.ndarray
    starts: np.ndarray
    test_starts: np.ndarray
    scored: np.ndarray
    n_inputs: int
    symbols: str = ""

    def __post_init__(self) -> None:
        for what in ("starts", "test_starts", "scored"):
            if not np.size(getattr(self, what)):
                raise ValueError(f"task {self.name!r} has no {what}")
        if not np.any(self.scored):
            raise ValueError(f"task {self.name!r} scores no position")

    def __repr__(self) -> str:
        return (
            f"Task({self.name!r}, {len(self.starts)} windows of {self.window}, {len(self.test_starts)} held out, "
            f"{self.n_inputs} {'symbols' if self.discrete else 'components'})"
        )

    @property
    def window(self) -> int:
        """Tokens that the model sees at once."""
        return len(self.scored)

    @property
    def discrete(self) -> bool:
        """Whether tokens are symbols, not vectors."""
        return self.stream.ndim == 1

    @property
    def n_outputs(self) -> int:
        """Numbers that the model gives for each position: logits of symbols, or one value."""
        return self.n_inputs if self.discrete else 1

    @property
    def next_token(self) -> bool:
        """Whether a scored target is also an input, so that only a causal model can be asked for it."""
        return bool(self.scored[:-1].any())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content."""
        total = hashlib.sha256()
        for array in (self.stream, self.starts, self.test_starts, self.scored):
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    @cached_property
    def blind_loss(self) -> float:
        """Held-out loss of the best guess that looks at no input: frequencies of the training targets, or their mean.

        Examples
        --------
        >>> round(text_task(window=16).blind_loss, 2), round(regression_task().blind_loss, 1)
        (3.15, 0.9)
        """
        seen, held_out = (self.windows(s)[1][:, self.scored] for s in (self.starts, self.test_starts))
        if not self.discrete:
            return float(np.square(held_out - seen.mean()).mean())
        # One more of each symbol (Laplace), so that none in the held-out part is impossible.
        counts = np.bincount(seen.ravel(), minlength=self.n_outputs) + 1
        return float(-np.log(counts / counts.sum())[held_out].mean())

    def windows(self, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of windows that start at `starts`, of any shape: (*starts, window) each.

        Inputs of a stream of vectors are (*starts, window, n_inputs).

        Examples
        --------
        >>> task = copy_task(length=3, n_symbols=4)
        >>> inputs, targets = task.windows(task.starts[:2])
        >>> inputs.shape, bool((inputs[:, :3] == targets[:, 3:]).all())
        ((2, 6), True)
        """
        at = np.asarray(starts)[..., None] + np.arange(self.window)
        following = self.stream[at + 1]
        if self.discrete:
            return self.stream[at].astype(np.int64), following.astype(np.int64)
        return self.stream[at], following[..., -1]

    def encode(self, text: str) -> np.ndarray:
        """Symbols of a text.

        Raises
        ------
        ValueError
            Naming the first character that the task does not know.
        """
        return _encode(text, self.symbols)

    def decode(self, symbols: Sequence[int]) -> str:
        """Text of symbols.

        Examples
        --------
        >>> task = text_task(window=16)
        >>> task.decode(task.encode("summer's day"))
        "summer's day"
        """
        return "".join(self.symbols[int(i)] for i in symbols)


def text_task(
    text: str | Path | None = None, *, window: int = 64, stride: int = 1, predict: str = "all"
) -> Task:
    """Tell the next character of a text.

    The last tenth of the text is held out; no window reaches from one part into the other.

    Parameters
    ----------
    text : str or Path, optional
        A text, or the path of a file of UTF-8. Left out, Shakespeare's Sonnets, which come with the package:
        95 kB, 62 symbols, in the public domain.
    window : int, optional
        Characters that the model sees.
    stride : int, optional
        Characters from one window to the next, in training; held-out windows do not overlap.
    predict : {"all", "last"}, optional
        Score the character after every position, or only that after the last one, which a model without causal
        mask can be asked for too.

    Raises
    ------
    ValueError
        If the text is too short for one window in each part.

    Examples
    --------
    >>> text_task(window=16)
    Task('text', 86068 windows of 16, 256 held out, 62 symbols)
    """
    if predict not in ("all", "last"):
        raise ValueError(f"predict={predict!r} is unknown; use all or last")
    whole(1, window=window, stride=stride)
    if text is None:
        text = files("trainability").joinpath("data/sonnets.txt").read_text(encoding="utf8")
    elif isinstance(text, Path):
        text = text.read_text(encoding="utf8")
    cut = int(len(text) * (1 - HELD_OUT))
    if min(cut, len(text) - cut) < window + 1:
        needed = int(np.ceil((window + 1) / HELD_OUT))
        raise ValueError(
            f"text has {len(text)} characters, too few for windows of {window} in the tenth held out; "
            f"it needs about {needed}, or a window of at most {max((len(text) - cut) - 1, 0)}"
        )
    symbols = "".join(sorted(set(text)))
    scored = np.ones(window, bool) if predict == "all" else np.arange(window) == window - 1
    test = np.arange(cut, len(text) - window, window)
    return Task(
        name="text",
        stream=_encode(text, symbols),
        starts=np.arange(0, cut - window, stride),
        test_starts=test[_spread(len(test), TEST_WINDOWS)],
        scored=scored,
        n_inputs=len(symbols),
        symbols=symbols,
    )


def synthetic_text(n_characters: int = 40_000, *, seed: int = 0) -> str:
    """Text of pseudo-words that a small model learns in a few hundred steps.

    64 words of one to three syllables (consonant, vowel, in two of five a consonant), drawn with weights 1/rank.
    After each word comes, with chance 0.8, one of four successors of its own, else a free draw. Sentences of four
    to nine words begin with a capital and end in ".", "?" or "!" (80, 10, 10 %), three in ten of them with a new
    line; one word in ten has a comma.

    Parameters
    ----------
    n_characters : int, optional
    seed : int, optional
        Of words and text.

    Examples
    --------
    >>> len(synthetic_text(500)), synthetic_text(500) == synthetic_text(500, seed=1)
    (500, False)
    """
    whole(1, n_characters=n_characters)
    numbers = stream(seed, "text")
    words: list[str] = []
    while len(words) < _WORDS:
        syllables = numbers.integers(1, 4)
        word = "".join(
            numbers.choice(list("bcdfghjklmnprstvw"))
            + numbers.choice(list("aeiou"))
            + (numbers.choice(list("lmnrst")) if numbers.random() < 0.4 else "")
            for _ in range(syllables)
        )
        if word not in words:
            words.append(word)
    weights = 1 / np.arange(1, _WORDS + 1)
    weights /= weights.sum()
    successors = numbers.choice(_WORDS, size=(_WORDS, _SUCCESSORS), p=weights)
    pieces: list[str] = []
    length, word_at = 0, int(numbers.choice(_WORDS, p=weights))
    while length < n_characters:
        n_words = int(numbers.integers(4, 10))
        for i in range(n_words):
            if numbers.random() < _FOLLOW:
                word_at = int(successors[word_at, numbers.integers(_SUCCESSORS)])
            else:
                word_at = int(numbers.choice(_WORDS, p=weights))
            word = words[word_at].capitalize() if i == 0 else words[word_at]
            if i < n_words - 1:
                word += ", " if numbers.random() < 0.1 else " "
            else:
                word += str(numbers.choice([".", "?", "!"], p=[0.8, 0.1, 0.1]))
                word += "\n" if numbers.random() < 0.3 else " "
            pieces.append(word)
            length += len(word)
    return "".join(pieces)[:n_characters]


def copy_task(*, length: int = 8, n_symbols: int = 16, n_windows: int = 4096, seed: int = 0) -> Task:
    """Repeat a random sequence: x₁ … x_n, then x₁ … x_n again, of which the second half is scored.

    Examples
    --------
    >>> copy_task(length=4)
    Task('copy', 4096 windows of 8, 256 held out, 17 symbols)
    """
    whole(1, length=length, n_windows=n_windows)
    whole(2, n_symbols=n_symbols)
    x = stream(seed, "task").integers(n_symbols, size=(n_windows + TEST_WINDOWS, length))
    mark = np.full((len(x), 1), n_symbols)  # "now repeat"
    rows = np.concatenate([x, mark, x], axis=1)
    return _row_task(
        "copy", rows.ravel(), rows.shape[1], n_windows, np.arange(2 * length) >= length, n_symbols + 1
    )


def modular_task(*, modulus: int = 23, train_share: float = 0.7, seed: int = 0) -> Task:
    """Addition modulo a number: a, b, = and the sum, which alone is scored. Pairs are split at random.

    Parameters
    ----------
    modulus : int, optional
    train_share : float, optional
        Share of all modulus² pairs that is trained on; the rest (at most 256) is held out.
    seed : int, optional

    Examples
    --------
    >>> modular_task(modulus=7)
    Task('modular', 34 windows of 3, 15 held out, 8 symbols)
    """
    whole(2, modulus=modulus)
    n_train = int(train_share * modulus**2)
    if not 0 < n_train < modulus**2:
        raise ValueError(
            f"train_share={train_share} leaves {n_train} of {modulus**2} pairs to train on; both parts need one"
        )
    a, b = np.divmod(stream(seed, "task").permutation(modulus**2)[: n_train + TEST_WINDOWS], modulus)
    rows = np.stack([a, b, np.full_like(a, modulus), (a + b) % modulus], axis=1)
    return _row_task("modular", rows.ravel(), 4, n_train, np.arange(3) == 2, modulus + 1)


def regression_task(
    *, n_examples: int = 8, dim: int = 3, noise: float = 0.0, n_windows: int = 4096, seed: int = 0
) -> Task:
    """Linear regression in context: examples (x_i, w·x_i), then a query (x, 0) whose label is asked for.

    Every window has a weight vector w of its own, of variance 1/dim a component, and standard normal x; labels of
    the examples bear Gaussian noise. An answer of zero has loss 1, on average.

    Examples
    --------
    >>> regression_task(n_examples=5)
    Task('regression', 4096 windows of 6, 256 held out, 4 components)
    """
    whole(1, n_examples=n_examples, dim=dim, n_windows=n_windows)
    if not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise={noise} must be finite and not negative")
    numbers = stream(seed, "task")
    n = n_windows + TEST_WINDOWS
    w = numbers.standard_normal((n, dim, 1)) / np.sqrt(dim)
    x = numbers.standard_normal((n, n_examples + 1, dim))
    y = x @ w
    answer = np.zeros((n, 1, dim + 1))
    answer[..., -1:] = y[:, -1:]
    y += noise * numbers.standard_normal(y.shape)
    y[:, -1] = 0
    rows = np.concatenate([np.concatenate([x, y], axis=-1), answer], axis=1)
    scored = np.arange(n_examples + 1) == n_examples
    return _row_task("regression", rows.reshape(-1, dim + 1), n_examples + 2, n_windows, scored, dim + 1)


def _row_task(name, tokens, row, n_train, scored, n_inputs) -> Task:
    """Windows that do not overlap, the first `n_train` of them for training."""
    starts = np.arange(0, len(tokens), row)
    return Task(
        name=name,
        stream=tokens,
        starts=starts[:n_train],
        test_starts=starts[n_train:],
        scored=scored,
        n_inputs=n_inputs,
    )


def _encode(text: str, symbols: str) -> np.ndarray:
    places = {symbol: i for i, symbol in enumerate(symbols)}
    if unknown := sorted(set(text) - set(places)):
        raise ValueError(f"text has {unknown[0]!r}, which is none of the {len(symbols)} symbols of the task")
    return np.array([places[symbol] for symbol in text], dtype=np.uint16)


def _spread(n: int, most: int) -> np.ndarray:
    """At most `most` of n indices, evenly spread."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(int)
