"""The trainer of small networks: its tanh, its kernels against a NumPy twin, its exits, forms, bits and errors."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from trainability import Grid, _rng, estimate_cost, log_axis, product_map, trainability_map
from trainability.conditions import CONDITIONS
from trainability.scores import published_score
from trainability.trainers import MLP, _tanh, mlp
from trainability.trainers._tanh import emit_tanh
from trainability.trainers._vector import IN_STEP, emitter_and_indices, lanes

sys.path.insert(0, str(Path(__file__).parent))
import mlp_twin

SIDE = 64  # pixels of the slow maps


def options_of(trainer: MLP) -> dict:
    """Fields of a trainer that are not those of its activation's default."""
    default = MLP(activation=trainer.activation)
    names = [f.name for f in fields(MLP) if getattr(trainer, f.name) != getattr(default, f.name)]
    return {"activation": trainer.activation, **{name: getattr(trainer, name) for name in names}}


PAPER = {name: options_of(condition.trainer) for name, condition in CONDITIONS.items()}
VARIANTS = {
    **PAPER,
    "deep": {"depth": 3, "width": 6},
    "deep relu": {"depth": 2, "width": 5, "n_inputs": 7, "activation": "relu", "n_data": 37},
    "deep identity": {"depth": 2, "width": 5, "activation": "identity", "n_data": 12},
    "odd sizes": {"width": 7, "n_inputs": 3, "n_data": 21, "offset": 0.1},
    "few rows": {"width": 6, "n_data": 3},
    "offset once": {"offset": 0.3, "width": 8},
    "memory": {"momentum": 0.5, "weight_decay": 0.02, "width": 8},
    "memory identity": {"momentum": 0.5, "weight_decay": 0.02, "activation": "identity"},
    "memory minibatch": {"momentum": 0.3, "weight_decay": 0.1, "batch_size": 5, "width": 5},
    "offset identity": {"offset": 0.05, "offset_mode": "per_step", "activation": "identity", "n_data": 9},
    "offset point": {"offset": 0.05, "offset_mode": "per_step", "n_data": 1},
    "point relu": {"n_data": 1, "activation": "relu", "weight_scale": 0.7},
    "point identity": {"n_data": 1, "activation": "identity", "width": 5},
}


def window(variant: str, n: int) -> dict[str, np.ndarray]:
    """Pixels of the full window of a condition, that of tanh for other variants."""
    return CONDITIONS[variant if variant in CONDITIONS else "tanh"].full(n)[0].pixels()


def twin_losses(trainer: MLP, pixels, *, weights=None):
    """Losses of the twin on a trainer's own draws, shape (pixels, n_steps)."""
    drawn = trainer.draw(trainer.seed, trainer.batch_size)
    full = trainer._complete(pixels)
    scaled = [trainer.weight_scale * w for w in weights or drawn.weights]
    return mlp_twin.losses(
        scaled,
        drawn.x,
        drawn.y,
        activation=trainer.activation,
        lr=[full["lr_in"], *[full["lr_hidden"]] * (trainer.depth - 1), full["lr_out"]],
        n_steps=trainer.n_steps,
        offset=full["offset"],
        per_step=trainer.offset_mode == "per_step",
        momentum=trainer.momentum,
        decay=trainer.weight_decay,
        batches=drawn.batches if drawn.batches.size else None,
    )


def _tanh_of(**options):
    """Make a function that replaces `count` groups of IN_STEP lane vectors by their tanh."""

    @intrinsic
    def emitted(typing, s, count):
        def generate(context, builder, signature, arguments):
            emit, (count,) = emitter_and_indices(context, builder, signature, arguments)
            with cgutils.for_range(builder, builder.mul(count, ir.Constant(count.type, IN_STEP))) as loop:
                place = emit.at(ir.Constant(count.type, 0), (loop.index, emit.stride))
                emit.store(emit_tanh(emit, [emit.load(place)], **options)[0], place)
            return context.get_dummy_value()

        return types.void(s, count), generate

    @njit
    def run(s, count):
        emitted(s, count)

    def of(values, dtype):
        block = lanes(dtype) * IN_STEP
        out = np.zeros(-(-len(values) // block) * block, dtype)
        out[: len(values)] = values
        run(out, len(out) // block)
        return out[: len(values)]

    return of


tanh_of = {stretched: _tanh_of(stretched=stretched) for stretched in (False, True)}


def numbers_for_tanh(dtype):
    rng = np.random.default_rng(0)
    exponents = rng.uniform(-300 if dtype == "float64" else -37, 1.5, 30_000)
    ranges = (
        rng.uniform(0, 1, 200_000),
        rng.uniform(0, 3, 100_000),
        rng.uniform(0, 25, 50_000),
        10.0**exponents,
    )
    return np.concatenate(ranges).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("stretched", [False, True])
def test_tanh_is_within_two_ulp_odd_bounded_and_keeps_nan(dtype, stretched):
    x, stretch = numbers_for_tanh(dtype), _tanh.STRETCH["double" if dtype == "float64" else "float"]
    found = tanh_of[stretched](x, dtype)
    # 64 bits of fraction: an oracle to 0.001 ulp
    exact = np.tanh(x.astype(np.longdouble) / (np.longdouble(stretch) if stretched else 1))
    assert (abs(found - exact) / np.spacing(exact.astype(dtype))).max() <= 2
    assert found.max() == 1
    assert (tanh_of[stretched](-x, dtype) == -found).all()
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.finfo(dtype).max, 64.0], dtype)
    np.testing.assert_array_equal(tanh_of[stretched](special, dtype), [0, 0, 1, -1, 1, 1])
    assert np.signbit(tanh_of[stretched](special, dtype)[1]) == (not stretched)
    assert np.isnan(tanh_of[stretched](np.array([np.nan], dtype), dtype)).all()


@pytest.mark.skipif(not _tanh.LOOKS_UP, reason="there is one way of looking up")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("stretched", [False, True])
def test_tanh_has_the_same_bits_on_every_processor(dtype, stretched):
    x = np.concatenate([numbers_for_tanh(dtype), np.arange(-40, 40, 0.5), [-0.0, np.inf, -np.inf]]).astype(
        dtype
    )
    elsewhere = _tanh_of(stretched=stretched, looks_up=False)(x, dtype)
    whole = {"float64": np.int64, "float32": np.int32}[dtype]
    np.testing.assert_array_equal(tanh_of[stretched](x, dtype).view(whole), elsewhere.view(whole))


@pytest.mark.parametrize("kind", ["double", "float"])
def test_constants_of_tanh_are_those_of_its_formula(kind):
    """The coefficients interpolate at the Chebyshev points, the table is tanh, both to their rounding."""
    of_type = {"double": float, "float": np.float32}[kind]
    p, q = _tanh.P[kind], _tanh.Q[kind]
    with mpmath.workdps(50):
        c, n = mpmath.mpf(_tanh.STRETCH[kind]), 2 * len(p)
        places = [(1 + mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n))) / 8 for i in range(n)]
        ratios = [mpmath.tanh(mpmath.sqrt(v) / c) / mpmath.sqrt(v) for v in places]
        rows = [
            [v**k for k in range(n // 2)] + [-g * v**k for k in range(n // 2)]
            for v, g in zip(places, ratios, strict=True)
        ]
        right = [(c * g - 1) / v for v, g in zip(places, ratios, strict=True)]
        expected = [float(a) for a in mpmath.lu_solve(mpmath.matrix(rows), mpmath.matrix(right))]
        worst = max(
            abs((r + r**3 * mpmath.polyval(p[::-1], r**2)) / (c + r**2 * mpmath.polyval(q[::-1], r**2))
                / mpmath.tanh(r / c) - 1)
            for r in mpmath.linspace(mpmath.mpf("0.001"), 0.5, 400)
        )  # fmt: skip
        table = [float(mpmath.tanh(j / c)) for j in range(len(_tanh.TANH[kind]) - 1)]
        slopes = [float(mpmath.sech(j / c) ** 2) for j in range(len(table))]
    assert [of_type(a) for a in expected] == [of_type(a) for a in (*p, *q)]
    assert worst < {"double": 2e-17, "float": 1e-9}[kind]  # a sixth and a sixtieth of half an ulp
    np.testing.assert_array_equal(np.array(_tanh.TANH[kind], of_type), np.array([*table, 1], of_type))
    np.testing.assert_array_equal(np.array(_tanh.SLOPES[kind], of_type), np.array([*slopes, 0], of_type))


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_are_the_twins(variant, reduce):
    """Rates small enough to train smoothly, where rounding is not amplified: 1e-12 of the first loss."""
    trainer = MLP(**{"n_steps": 40, "lr": 0.7, "offset": 0.02, **VARIANTS[variant]}, reduce=reduce)
    rates = np.geomspace(0.01, 0.8, 11)
    pixels = {"lr_in": rates, "lr_hidden": rates[::-1] * 0.5, "lr_out": rates[::-1]}
    exact = twin_losses(trainer, pixels)
    np.testing.assert_allclose(trainer.trace(pixels) / exact[:, :1], exact / exact[:, :1], rtol=0, atol=1e-12)
    runs, expected = trainer(pixels), mlp_twin.observables(exact)
    for name in ("first_loss", "final_loss", "min_loss", "tail_ratio", "sum_ratio"):
        np.testing.assert_allclose(runs[name], expected[name], rtol=1e-11, atol=1e-13 * exact[0, 0])
    np.testing.assert_array_equal(runs["diverged_step"], expected["diverged_step"])


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_matrix_products_train_as_the_twin(variant, engine):
    trainer = MLP(**{"n_steps": 25, **VARIANTS[variant]}, engine=engine)
    pixels = {"lr": np.geomspace(0.01, 0.8, 5)}
    exact = twin_losses(trainer, pixels)
    np.testing.assert_allclose(trainer.trace(pixels) / exact[:, :1], exact / exact[:, :1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        trainer(pixels)["sum_ratio"], mlp_twin.observables(exact)["sum_ratio"], rtol=1e-11
    )


@pytest.mark.parametrize("engine", ["vector", "numpy", "torch"])
@pytest.mark.parametrize("condition", ["tanh", "relu", "mini-batch", "offset"])
def test_observables_of_the_trace_are_the_maps(condition, engine):
    """Converging, wandering, diverging and overflowing runs alike: what the kernel sums is what the trace says."""
    trainer = MLP(**PAPER[condition], width=6, n_steps=120, engine=engine)
    pixels = window(condition, 9)
    runs, expected = trainer(pixels), mlp_twin.observables(trainer.trace(pixels))
    assert len(np.unique(trainer.status(runs))) >= 2
    assert np.isinf(runs["final_loss"]).any()
    for name in trainer.observables:
        # Sums of at most 120 terms of up to 1e6, added in another order.
        np.testing.assert_allclose(runs[name], expected[name], rtol=1e-13, err_msg=name)
    v = trainer.trace(pixels)
    with np.errstate(all="ignore"):
        v = np.where(v / v[:, :1] < 1e6, v / v[:, :1], 1e6)
    score = np.where(v[:, -20:].mean(axis=1) < 1, -v.sum(axis=1), (1 / v).sum(axis=1))
    np.testing.assert_allclose(published_score(runs), score, rtol=1e-13)


@pytest.mark.parametrize("engine", ["vector", "numpy"])
@pytest.mark.parametrize("variant", ["memory", *PAPER])
def test_ending_lost_runs_early_changes_no_bit(variant, engine):
    settings_ = {"n_steps": 150, "width": 6, **VARIANTS[variant], "engine": engine}
    pixels = window(variant, 14)
    early, whole = (MLP(**settings_, early_exit=choice)(pixels) for choice in (True, False))
    assert (early["diverged_step"] >= 0).sum() > 30
    for name in early:
        np.testing.assert_array_equal(early[name], whole[name])


@settings(max_examples=20)
@given(
    variant=st.sampled_from(["tanh", "identity", "one point", "mini-batch", "deep", "memory"]),
    dtype=st.sampled_from(["float64", "float32"]),
    start=st.integers(0, 40),
    count=st.integers(1, 30),
    shuffle=st.integers(0, 5),
    threads=st.sampled_from([1, 2]),
)
def test_bits_of_a_pixel_depend_on_its_own_hyperparameters_alone(
    variant, dtype, start, count, shuffle, threads
):
    settings_ = {"n_steps": 60, **VARIANTS[variant], "width": 5, "dtype": dtype}
    pixels = {name: values[:49] for name, values in window(variant, 7).items()}
    order = np.random.default_rng(shuffle).permutation(49)[start : start + count]
    chosen = order if len(order) else np.array([3])
    whole = MLP(**settings_)(pixels)
    part = MLP(**settings_, threads=threads)({name: values[chosen] for name, values in pixels.items()})
    for name in whole:
        np.testing.assert_array_equal(part[name], whole[name][chosen])


@pytest.mark.parametrize("variant", ["tanh", "one point", "mini-batch"])
def test_maps_are_bit_identical_across_tilings_threads_and_stores(variant, tmp_path):
    grid = Grid(lr_in=log_axis(1e-3, 1e6, 13), lr_out=log_axis(1e-3, 1e6, 11))
    trainer = MLP(n_steps=50, **PAPER[variant])
    whole = trainability_map(grid, trainer)
    for tile in ((13, 11), (1, 1), (5, 3), (2, 11), (13, 1)):
        assert whole.identical(trainability_map(grid, trainer, tile=tile))
    assert whole.identical(trainability_map(grid, MLP(n_steps=50, threads=2, **PAPER[variant])))
    assert whole.identical(trainability_map(grid, trainer, tile=(4, 4), store=tmp_path / "map.zarr"))
    with ThreadPoolExecutor(2) as pool:
        assert whole.identical(trainability_map(grid, trainer, tile=(4, 4), workers=pool))


@pytest.mark.parametrize("options", [{"activation": "identity"}, {"n_data": 1}, {"width": 4}])
def test_neighbours_with_momentum_leave_a_pixel_alone(options):
    grid = Grid(momentum=[0.0, 0.4], weight_decay=[0.0, 0.1], lr=log_axis(0.1, 1e4, 8))
    maps = [trainability_map(grid, MLP(n_steps=50, **options), tile=tile) for tile in ((2, 2, 8), (1, 1, 3))]
    assert maps[0].identical(maps[1])


@pytest.mark.parametrize("engine", ["numpy", "torch"])
def test_matrix_products_give_the_same_bits_in_any_company(engine):
    trainer, pixels = MLP(n_steps=40, width=6, engine=engine), window("tanh", 7)
    whole = trainer(pixels)
    part = trainer({name: values[[31, 4, 17]] for name, values in pixels.items()})
    for name in whole:
        np.testing.assert_array_equal(part[name], whole[name][[31, 4, 17]])


def test_seeds_and_batch_sizes_can_be_axes():
    grid = Grid(seed=np.arange(3), batch_size=np.array([1, 4, 16]))
    runs = trainability_map(grid, MLP(n_steps=20, lr=0.5))
    for i, seed in enumerate(grid["seed"]):
        for j, batch_size in enumerate(grid["batch_size"]):
            alone = MLP(n_steps=20, lr=0.5, seed=int(seed), batch_size=int(batch_size))(
                {"lr": np.array([0.5])}
            )
            assert runs["sum_ratio"][i, j].item() == alone["sum_ratio"][0]
    assert len(np.unique(runs["sum_ratio"])) == 9


def test_network_of_two_weights_is_the_product_map():
    """x w0 w1 on one row: a = c w0, b = c w1 with c² = 2 lr x² is the product map of mu = 2 lr x y."""
    x, y, w0, w1, lr = 0.8, 1.3, 0.4, 0.9, 0.35
    network = MLP(
        width=1,
        activation="identity",
        data=([[x]], [y]),
        weights=([[w0]], [[w1]]),
        n_steps=60,
        lr=lr,
        offset=0.0,
    )
    c2, mu = 2 * lr * x**2, 2 * lr * x * y
    u, expected = (np.sqrt(c2) * w0, np.sqrt(c2) * w1), []
    for _ in range(60):
        expected.append(((u[0] * u[1] - mu) / (2 * lr * x)) ** 2)
        u = product_map(mu).step(u, (mu,))
    np.testing.assert_allclose(network.trace({"lr": np.array([lr])})[0], expected, rtol=1e-9, atol=1e-15)


def test_arrays_handed_in_are_what_is_trained():
    drawn = MLP(width=5, n_steps=30).draw(seed=7, batch_size=4)
    given_ = MLP(width=5, n_steps=30, data=(drawn.x, drawn.y), weights=drawn.weights, batches=drawn.batches)
    own = MLP(width=5, n_steps=30, seed=7, batch_size=4)
    pixels = {"lr": np.geomspace(0.1, 1e3, 9)}
    for name, values in own(pixels).items():
        np.testing.assert_array_equal(given_(pixels)[name], values)
    assert json.dumps(given_.settings()) != json.dumps(own.settings())
    moved = MLP(width=5, n_steps=30, data=(drawn.x, drawn.y), weights=[w + 1e-9 for w in drawn.weights])
    assert moved.settings()["weights"] != given_.settings()["weights"]


def test_fallback_trains_where_the_kernels_do_not_compile(monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("no such instruction")

    pixels = {"lr": np.geomspace(0.1, 1.0, 5)}
    expected = MLP(width=4, n_steps=10)(pixels)
    mlp._vectors_work.cache_clear()
    monkeypatch.setattr(MLP, "_train_vectors", fail)
    try:
        trainer = MLP(width=4, n_steps=10)
        with pytest.warns(UserWarning, match="do not compile here"):
            found = trainer(pixels)
        assert trainer.settings()["engine"] == "numpy"
    finally:
        mlp._vectors_work.cache_clear()
    np.testing.assert_allclose(found["sum_ratio"], expected["sum_ratio"], rtol=1e-12)


def test_single_precision_previews_the_full_window():
    """About 99.8 % of a full window agree; of 144 pixels, a few at the boundary may not."""
    pixels = window("tanh", 12)
    double, single = (MLP(n_steps=100, dtype=d) for d in ("float64", "float32"))
    verdicts = double.status(double(pixels)), single.status(single(pixels))
    assert np.mean(verdicts[0] == verdicts[1]) > 0.97
    assert len(np.unique(verdicts[0])) > 1


BAD = [
    ({"width": 0}, "width=0 must be a whole number, at least 1"),
    ({"depth": 0}, "depth=0"),
    ({"n_steps": -1}, "n_steps=-1"),
    ({"n_data": 0}, "n_data=0"),
    ({"batch_size": 0}, "batch_size=0 must be a whole number, at least 1"),
    ({"batch_size": 5, "n_data": 4}, "batch_size=5 is more than the 4 rows"),
    ({"lr": np.nan}, "lr must be finite; found nan"),
    ({"lr_out": np.inf}, "lr_out must be finite"),
    ({"activation": "gelu"}, "activation='gelu' is unknown; use tanh, relu, identity"),
    ({"offset_mode": "twice"}, "offset_mode='twice'"),
    ({"seed": 0.5}, "seed=0.5 must be a whole number"),
    ({"seed": 2**53 + 1}, "seed=9007199254740992 must be a whole number, at least 0 and below"),
    ({"lr": None}, "lr=None must be a number"),
    ({"lr": "fast"}, "lr='fast' must be a number"),
    (
        {"momentum": np.array([0.0, 0.9])},
        r"momentum=array\(\[0. , 0.9\]\) must be a number; to vary it, make it an axis",
    ),
    (
        {"data": np.ones((4, 2))},
        r"data are one ndarray; pass inputs \(n_data, n_inputs\) and targets \(n_data,\)",
    ),
    ({"data": (np.ones((4, 2)), np.ones(4), 1)}, "data are 3 items; pass inputs"),
    ({"engine": "torch", "device": "cuda:7"}, r"device='cuda:7' is not there \(.+\); use 'cpu'"),
    ({"engine": "torch", "device": "gpu"}, "device='gpu' is not there"),
    ({"device": "cuda"}, "needs engine='torch'"),
    ({"width": 3, "weights": (np.ones((3, 2)), np.ones((3, 1)))}, r"they need \[\(3, 3\), \(3, 1\)\]"),
    ({"data": (np.ones((4, 2)), np.ones(3))}, r"\(4, 2\) and \(3,\); they need"),
    ({"data": (np.full((4, 2), np.inf), np.ones(4))}, "data must be finite"),
    ({"n_steps": 3, "batches": np.zeros((2, 4), int)}, r"shape \(3, batch_size\)"),
    ({"n_steps": 1, "n_data": 4, "batches": np.array([[4]])}, "rows 4 to 4; data have 0 to 3"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MLP(**options)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({}, "pass at least one hyperparameter"),
        ({"lr": 0.1}, "all of one shape"),
        ({"lr": np.ones(3), "momentum": np.zeros(2)}, r"shapes \{'lr': \(3,\), 'momentum': \(2,\)\}"),
        ({"lr": np.ones((2, 3))}, r"shapes \{'lr': \(2, 3\)\}"),
        ({"lr_inn": np.ones(3)}, "'lr_inn' is not a hyperparameter; known are lr, lr_in"),
        ({"seed": np.array([0.0, 2.0**60])}, r"seed=1\.15\S+e\+18 must be a whole number"),
    ],
)
def test_pixels_that_are_no_runs_are_refused(pixels, message):
    trainer = MLP(width=3, n_steps=5)
    for ask in (trainer, trainer.trace, trainer.lyapunov_exponents):
        with pytest.raises(ValueError, match=message):
            ask(pixels)


def test_numbers_of_numpy_are_settings_like_any():
    """A loop over an array hands them in: the map, its settings and its store are those of plain numbers."""
    numpys = MLP(
        width=np.int64(3), n_steps=np.int32(5), lr=np.float32(0.5), seed=np.int64(1), reduce=np.bool_(True)
    )
    plain = MLP(width=3, n_steps=5, lr=0.5, seed=1)
    grid = Grid(lr_in=[1.0, 2.0])
    assert trainability_map(grid, numpys).identical(trainability_map(grid, plain))


def test_a_trainer_does_not_change_with_the_arrays_it_was_given():
    drawn = MLP(width=3).draw(seed=0)
    weights = [w.copy() for w in drawn.weights]
    trainer = MLP(width=3, n_steps=5, data=(drawn.x, drawn.y), weights=weights)
    before, settings_before = trainer.trace({"lr": [1.0]}), trainer.settings()
    drawn.x[:] = drawn.y[:] = weights[0][:] = 0
    np.testing.assert_array_equal(trainer.trace({"lr": [1.0]}), before)
    assert trainer.settings() == settings_before


@pytest.mark.parametrize(
    ("options", "products"),
    [
        # Forward, and backward by the layer's inputs, of every weight; backward by the weights of all but the first.
        ({"width": 3, "depth": 3, "n_data": 5}, 5 * (2 * (9 + 9 + 9 + 3) + (9 + 9 + 3))),
        # The loss is of all 20 rows, the gradient of 4.
        ({"width": 3, "n_data": 20, "batch_size": 4}, 20 * 12 + 4 * (12 + 12 + 3)),
        # Two rows span two inputs.
        ({"width": 3, "n_data": 2}, 2 * (2 * (6 + 3) + 3)),
        ({"width": 3, "activation": "identity", "n_data": 40}, 3 * 3 * 3),
        # Momentum, and matrix products, know no form in vectors; the rotated data are a square.
        ({"width": 3, "activation": "identity", "n_data": 40, "momentum": 0.5}, 3 * (2 * (9 + 3) + 3)),
        ({"width": 3, "activation": "identity", "n_data": 40, "engine": "numpy"}, 3 * (2 * (9 + 3) + 3)),
    ],
)
def test_operations_of_a_run_counted_by_hand(options, products):
    trainer = MLP(n_steps=7, **options)
    assert trainer.flops_per_run() == 7 * 2 * products
    assert estimate_cost(Grid(lr=[0.1, 0.2]), trainer).flops == 2 * 7 * 2 * products


def test_bad_pixels_are_refused():
    with pytest.raises(ValueError, match="lr_in must be finite; found inf"):
        MLP(width=3)({"lr_in": np.array([1.0, np.inf])})
    with pytest.raises(ValueError, match=r"batch_size=2\.5 must be a whole number"):
        MLP(width=3)({"batch_size": np.array([2.5])})
    with pytest.raises(ValueError, match="batch_size cannot be an axis"):
        MLP(width=3, n_steps=2, batches=[[0, 1], [1, 2]])({"batch_size": np.array([1])})
    with pytest.raises(ValueError, match="runs have no tail_ratio"):
        published_score({"sum_ratio": 1, "sum_inverse_ratio": 1})
    with pytest.raises(ValueError, match="need 4"):
        trainability_map(Grid(lr=0.1 + 1e-11 * np.arange(3)), MLP(dtype="float32"))


def away_from_boundary(sign):
    """Pixels whose 3 x 3 neighbourhood has one sign."""
    shifted = [np.roll(sign, (i, j), axis=(0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    away = np.all(np.stack(shifted) == sign, axis=0)
    away[[0, -1]] = away[:, [0, -1]] = False
    return away


@pytest.mark.slow
@pytest.mark.parametrize("zoomed", [False, True])
@pytest.mark.parametrize("name", CONDITIONS)
def test_outcomes_are_the_twins_up_to_the_noise_floor(name, zoomed):
    """The floor is how often the sign of the score changes in one code when the weights move by one ulp.

    It is the mean over four such moves. Beside the 0.3 points of tolerance, the twin's count of pixels may be off by
    three standard errors, as any one move's is: on the riddled zoom a sixth of all pixels are a toss of a coin.
    There some pixels whose neighbours agree are too: zooms are granted the floor away from the boundary as well.
    """
    if zoomed:
        pytest.importorskip("jax")  # zooms lie on the boundary of the reference's own draw
    n, condition = SIDE, CONDITIONS[name]
    grid, trainer = condition.zoom(pixels=n) if zoomed else condition.full(n)
    pixels, drawn = grid.pixels(), trainer.draw(0, trainer.batch_size)
    own = published_score(trainer(pixels)).reshape(n, n)
    moved = []
    for seed in range(4):
        up = [np.random.default_rng(seed).random(w.shape) < 0.5 for w in drawn.weights]
        weights = [np.nextafter(w, np.where(u, 9, -9)) for w, u in zip(drawn.weights, up, strict=True)]
        moved.append(published_score(replace(trainer, weights=weights)(pixels)).reshape(n, n))
    parts = [{k: v[i : i + 16] for k, v in pixels.items()} for i in range(0, n * n, 16)]
    exact = np.concatenate([published_score(mlp_twin.observables(twin_losses(trainer, p))) for p in parts])
    exact = exact.reshape(n, n)
    floor = np.mean([np.mean(np.sign(own) != np.sign(other)) for other in moved])
    differing = np.mean(np.sign(own) != np.sign(exact))
    away = away_from_boundary(np.sign(exact))
    agreeing = np.mean(np.sign(own)[away] == np.sign(exact)[away])
    tossed = (
        np.mean([np.mean(np.sign(own)[away] != np.sign(other)[away]) for other in moved]) if zoomed else 0.0
    )
    print(
        f"{name}, {n}² {'zoom' if zoomed else 'full'}: {np.mean(exact < 0):.3f} converged, floor {floor:.4f}, "
        f"twin differs {differing:.4f}, away {agreeing:.4f} of {away.sum()}"
    )
    assert 0 < np.mean(exact < 0) < 1
    assert differing <= floor + 0.003 + 3 * np.sqrt(max(floor, 1 / n**2) / n**2)
    assert agreeing >= 0.998 - tossed - 3 * np.sqrt(tossed / away.sum())
    if not zoomed:
        steady = np.all([np.sign(own) == np.sign(other) for other in moved], axis=0)
        smooth = (exact < 0) & steady & np.all([abs(other / own - 1) < 1e-13 for other in moved], axis=0)
        assert smooth.sum() > n
        # Where an ulp in the weights moves the score by less than 1e-13, another order of sums moves it little more.
        assert np.median(abs(own[smooth] / exact[smooth] - 1)) < 1e-12


def trained_by_autograd(trainer: MLP, *, lr: float):
    """The final weights as a function of the initial ones, in torch, for its own derivative."""
    drawn = trainer.draw(trainer.seed, trainer.batch_size)
    phi = {"tanh": lambda z: torch.tanh(z * 2**0.5), "relu": lambda z: torch.relu(z) * 2**0.5}[
        trainer.activation
    ]
    x, y = torch.tensor(drawn.x), torch.tensor(drawn.y)

    def loss(weights, rows):
        h = x[rows]
        for w in weights[:-1]:
            h = phi(h @ w / len(w) ** 0.5)
        return ((h @ weights[-1])[:, 0] / len(weights[-1]) - y[rows]).square().mean()

    def train(*weights):
        memory = [torch.zeros_like(w) for w in weights]
        for step in range(trainer.n_steps - 1):
            if trainer.offset_mode == "per_step" or step == 0:
                weights = (weights[0] + trainer.offset, *weights[1:])
            rows = torch.as_tensor(drawn.batches[step]) if drawn.batches.size else slice(None)
            gradients = torch.func.grad(loss)(weights, rows)
            memory = [
                trainer.momentum * m + g + trainer.weight_decay * w
                for m, g, w in zip(memory, gradients, weights, strict=True)
            ]
            weights = tuple(w - lr * m for w, m in zip(weights, memory, strict=True))
        return weights

    return train, [torch.tensor(w) for w in drawn.weights]


@pytest.mark.parametrize(
    "options",
    [
        {"width": 4},
        {"width": 3, "depth": 3, "momentum": 0.4, "weight_decay": 0.05},
        {"width": 4, "activation": "relu", "batch_size": 3, "offset": 0.01, "offset_mode": "per_step"},
    ],
)
@pytest.mark.parametrize("lr", [0.5, 4.0])
def test_exponent_is_the_growth_that_autograd_finds(options, lr):
    trainer = MLP(n_steps=20, lr=lr, **options)
    train, start = trained_by_autograd(trainer, lr=lr)
    numbers = _rng.stream(0, "change")
    change = [torch.tensor(numbers.standard_normal(tuple(w.shape))) for w in start]
    _, grown = torch.func.jvp(train, tuple(start), tuple(change))
    growth = torch.cat([g.ravel() for g in grown]).norm() / torch.cat([c.ravel() for c in change]).norm()
    found = trainer.lyapunov_exponents({"lr": np.array([lr, lr])})
    # 20 steps, growth of one rounding at most e per step: far below 1e-9.
    np.testing.assert_allclose(found, float(growth.log()) / 19, rtol=1e-9)
    assert found[0] == found[1]


@pytest.mark.parametrize(("n_steps", "lr"), [(1, 0.1), (9, 1e308)])
def test_a_run_without_a_step_has_no_exponent(n_steps, lr):
    """Of one loss there is no step between; a first step that overflows is no growth."""
    found = MLP(width=4, n_steps=n_steps).lyapunov_exponents({"lr": np.array([lr])})
    np.testing.assert_array_equal(found, [np.nan])


def test_exponent_of_a_run_that_overflows_is_finite():
    assert np.isfinite(MLP(width=4, activation="relu").lyapunov_exponents({"lr": np.array([1e5])})).all()
