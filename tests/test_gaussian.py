import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf, expit, ndtr

from trainability._gaussian import (
    LEAKY_SLOPE,
    deficit_and_slope,
    gaussian_mean,
    kernel_table,
    mlp_kernel,
    second_moment,
)

PHI = {
    "tanh": np.tanh,
    "erf": erf,
    "gelu": lambda x: x * ndtr(x),
    "silu": lambda x: x * expit(x),
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, LEAKY_SLOPE * x),
}
SMOOTH = ["tanh", "erf", "gelu", "silu", "identity"]
# Kernel and slope at sigma_mlp = 2, cosine 1 and 1/2, from an independent high-order quadrature.
REFERENCE = {
    "tanh": (0.635261234257, 0.274638015565, 1.023801772913, 0.586780422842),
    "erf": (0.697043950547, 0.293197777347, 1.235223795213, 0.631703715999),
    "relu": (2, 1.217995562088, 2, 1.333333333333),
    "gelu": (1.929865015864, 1.103324080704, 2.024179056215, 1.386347869623),
}


@pytest.mark.parametrize("activation", REFERENCE)
def test_reference_values(activation):
    norm, deficit, slope = mlp_kernel(activation, [0.0, 0.5], sigma_mlp=2.0)
    found = (norm[0], norm[1] - deficit[1], slope[0], slope[1])
    np.testing.assert_allclose(found, REFERENCE[activation], atol=1e-12)  # the digits of the table


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(("v", "c"), [(0.5, 0.3), (2.0, -1.5), (4.0, 3.96), (1.0, 0.0)])
def test_smooth_kernels_against_gauss_hermite(activation, v, c):
    """A 200 x 200 Gauss-Hermite rule in Cholesky coordinates, nothing of which the package uses.

    Its own error for the poles of tanh at these variances is below 1e-9.
    """
    x, w = np.polynomial.hermite_e.hermegauss(200)
    w = w / w.sum()
    h = np.sqrt(v) * x[:, None]
    other = c / np.sqrt(v) * x[:, None] + np.sqrt(v - c**2 / v) * x
    phi = PHI[activation]
    deficit, _ = deficit_and_slope(activation, v, v - c)
    kernel = w @ (phi(h) * phi(other)) @ w
    np.testing.assert_allclose(second_moment(activation, v) - deficit, kernel, atol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_kinked_kernels_against_sampling(activation):
    rng = np.random.default_rng(0)
    v, c, n = 1.7, 0.6, 400_000
    h = rng.standard_normal(n) * np.sqrt(v)
    other = c / v * h + np.sqrt(v - c**2 / v) * rng.standard_normal(n)
    products = PHI[activation](h) * PHI[activation](other)
    deficit, _ = deficit_and_slope(activation, v, v - c)
    error = products.std() / np.sqrt(n)
    assert abs(second_moment(activation, v) - deficit - products.mean()) < 4 * error


@pytest.mark.parametrize("activation", PHI)
@given(v=st.floats(0.05, 9.0), cosine=st.floats(-0.95, 0.999))
def test_slope_is_the_derivative_of_the_kernel(activation, v, cosine):
    delta = v * (1 - cosine)
    h = 1e-4 * delta
    (up, down), _ = deficit_and_slope(activation, v, np.array([delta + h, delta - h]))
    _, slope = deficit_and_slope(activation, v, delta)
    # The third derivative of relu's kernel grows like δ^(-3/2), so that the step's error is about 1e-8.
    np.testing.assert_allclose((up - down) / (2 * h), slope, rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "erf", "gelu", "silu", "leaky_relu", "swiglu", "geglu"])
def test_deficit_keeps_its_digits_near_collapse(activation):
    """deficit/ε → χ; at ε = 1e-14 a difference of kernels would have one digit left."""
    _, deficit, slope = mlp_kernel(activation, [1e-14, 0.0], sigma_mlp=1.7, sigma_bias=0.3)
    assert deficit[0] / 1e-14 == pytest.approx(slope[1], rel=1e-6)  # relu's kink leaves a term of order √ε


@pytest.mark.parametrize(("v", "delta"), [(1.3, 1e-9), (9.0, 1e-3), (40.0, 0.45), (0.2, 0.3)])
def test_gelu_and_relu_deficits_at_high_precision(v, delta):
    with mpmath.workdps(50):
        v_, d_ = mpmath.mpf(v), mpmath.mpf(delta)

        def gelu(c):
            root = mpmath.sqrt((1 + v_) ** 2 - c**2)
            angle = c / 4 + c / (2 * mpmath.pi) * mpmath.asin(c / (1 + v_))
            return angle + (v_**2 + c**2 * (1 - v_) / (1 + v_)) / (2 * mpmath.pi * root)

        def relu(c):
            theta = mpmath.acos(c / v_)
            return v_ / (2 * mpmath.pi) * (mpmath.sin(theta) + (mpmath.pi - theta) * mpmath.cos(theta))

        exact = [float(k(v_) - k(v_ - d_)) for k in (gelu, relu)]
    found = [float(deficit_and_slope(a, v, delta)[0]) for a in ("gelu", "relu")]
    np.testing.assert_allclose(found, exact, rtol=1e-12)


@pytest.mark.parametrize("activation", ["erf", "tanh"])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0])
def test_odd_activations_have_slope_above_norm(activation, sigma):
    """χ - K(0) = Σ (k - 1) a_k > 0 for the Taylor coefficients a_k ≥ 0 of an odd nonlinear kernel."""
    norm, _, slope = mlp_kernel(activation, 0.0, sigma_mlp=sigma)
    assert slope > norm


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
def test_homogeneous_activations_have_slope_equal_to_norm(activation):
    norm, _, slope = mlp_kernel(activation, 0.0, sigma_mlp=np.sqrt(2.0))
    assert slope == pytest.approx(norm, rel=1e-14)
    if activation == "relu":
        assert slope == pytest.approx(1.0, rel=1e-14)  # He initialisation


@pytest.mark.parametrize("activation", ["swiglu", "geglu"])
def test_gated_kernel_is_the_product_of_its_two_layers(activation):
    gate = {"swiglu": "silu", "geglu": "gelu"}[activation]
    epsilon = np.array([0.0, 0.2, 1.3])
    norm, deficit, _ = mlp_kernel(gate, epsilon, sigma_mlp=1.4, sigma_bias=0.2, sigma_out=1.1)
    gated = mlp_kernel(activation, epsilon, sigma_mlp=1.4, sigma_bias=0.2, sigma_out=1.1)
    np.testing.assert_allclose(gated[0] - gated[1], (norm - deficit) * 1.4**2 * (1 - epsilon), rtol=1e-13)
    h = 1e-6
    up, down = (mlp_kernel(activation, epsilon[1:] + s * h, sigma_mlp=1.4)[1] for s in (1, -1))
    slope = mlp_kernel(activation, epsilon[1:], sigma_mlp=1.4)[2]
    np.testing.assert_allclose((up - down) / (2 * h), slope, rtol=1e-8)


@pytest.mark.parametrize(
    ("activation", "sigma"), [("tanh", 1.0), ("tanh", 6.0), ("silu", 3.0), ("swiglu", 2.0)]
)
def test_table_agrees_with_quadrature(activation, sigma):
    epsilon = np.array([1e-12, 1e-4, 0.3, 1.0, 1.9, 2.0])
    table = kernel_table(activation, sigma, 0.2, 1.3)
    _, deficit, slope = table.exact(epsilon)
    found_deficit, found_slope = table(epsilon)
    np.testing.assert_allclose(
        found_deficit, deficit, rtol=1e-8
    )  # the table's stated 1e-10 of its largest value
    np.testing.assert_allclose(found_slope, slope, rtol=1e-8, atol=1e-9)


def test_error_estimate_bounds_the_error():
    exact = np.exp(-0.5 * 9)
    for scale in (0.3, 1.0, 3.0):
        value, error = gaussian_mean(lambda x: np.cos(3 * x), scale=scale, tolerance=1e-4)
        assert abs(value / exact - 1) <= error + 1e-12
    with pytest.raises(ArithmeticError, match="not smooth enough"):
        gaussian_mean(lambda x: np.sign(x - 0.3))


def test_preactivations_too_wide_for_quadrature_are_refused():
    with pytest.raises(ValueError, match="take erf or relu"):
        mlp_kernel("tanh", 0.1, sigma_mlp=1000.0)
    assert mlp_kernel("erf", 0.1, sigma_mlp=1000.0)[0] == pytest.approx(1.0, abs=1e-3)


def test_silent_first_layer():
    for activation in [*PHI, "swiglu"]:
        norm, deficit, slope = mlp_kernel(activation, [0.0, 0.7], sigma_mlp=0.0)
        np.testing.assert_array_equal([norm, deficit, slope], 0.0)
