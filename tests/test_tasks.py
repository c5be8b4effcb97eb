"""What sequence models are trained on: targets, splits and clear refusals."""

import numpy as np
import pytest

from trainability.trainers import copy_task, modular_task, regression_task, synthetic_text, text_task


def test_text_windows_and_their_targets():
    task = text_task(window=20)
    inputs, targets = task.windows(task.starts[[0, 7]])
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert task.decode(inputs[0]) == "THE SONNETS\nby Willi"
    assert task.decode(targets[1])[:4] == "NETS"[1:] + "\n"
    last_read = task.starts.max() + task.window
    assert last_read < task.test_starts.min()
    assert (np.diff(task.test_starts) >= task.window).all()


def test_entropies_of_the_texts():
    """The Sonnets' characters have an entropy of 3.13 nats, the synthetic text's 3.1, given one before 1.7."""

    def entropies(text):
        codes = np.unique(list(text), return_inverse=True)[1]
        single = np.bincount(codes) / len(codes)
        pair = np.bincount(codes[:-1] * 100 + codes[1:]) / (len(codes) - 1)
        first, both = (-(p[p > 0] * np.log(p[p > 0])).sum() for p in (single, pair))
        return first, both - first

    task = text_task(window=8)
    assert entropies(task.decode(task.stream))[0] == pytest.approx(3.13, abs=0.02)
    first, second = entropies(synthetic_text())
    assert 2.9 < first < 3.2
    assert 1.5 < second < 1.9


def test_a_text_can_be_a_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Ähnlich, nicht gleich. " * 40, encoding="utf8")
    task = text_task(path, window=10, stride=5)
    assert "Ä" in task.symbols
    assert (np.diff(task.starts) == 5).all()


@pytest.mark.parametrize("n", [0, 5, 100])
def test_a_short_text_is_refused(n):
    with pytest.raises(ValueError, match=f"text has {n} characters, too few for windows of 10"):
        text_task("a" * n, window=10)


def test_copies():
    task = copy_task(length=5, n_symbols=7)
    inputs, targets = task.windows(task.test_starts)
    np.testing.assert_array_equal(targets[:, task.scored], inputs[:, :5])
    assert task.next_token


def test_sums():
    task = modular_task(modulus=11)
    train, test = (np.concatenate(task.windows(s), axis=1) for s in (task.starts, task.test_starts))
    assert len(np.unique(np.concatenate([train, test])[:, :2], axis=0)) == 121
    for rows in (train, test):
        np.testing.assert_array_equal((rows[:, 0] + rows[:, 1]) % 11, rows[:, -1])


def test_regression_is_solved_by_least_squares():
    task = regression_task(n_examples=6, dim=3)
    inputs, targets = task.windows(task.test_starts[:20])
    for window, answer in zip(inputs, targets[:, task.scored][:, 0], strict=True):
        w = np.linalg.lstsq(window[:-1, :3], window[:-1, 3], rcond=None)[0]
        assert window[-1, :3] @ w == pytest.approx(answer, abs=1e-9)
        assert window[-1, 3] == 0
    assert np.var(task.windows(task.starts)[1][:, -1]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: copy_task(length=0), "length=0 must be a whole number"),
        (lambda: modular_task(train_share=1.0), "both parts need one"),
        (lambda: regression_task(noise=np.nan), "noise=nan must be finite"),
        (lambda: text_task(predict="first"), "predict='first' is unknown"),
        (lambda: text_task(window=16).encode("§"), "'§', which is none of the 62 symbols"),
    ],
)
def test_bad_tasks_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()
