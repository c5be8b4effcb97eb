"""Compiled kernels that move tangent vectors along orbits and keep the logarithms of their growth."""

import numpy as np
from numba import njit, prange

from ._lanes import push, put, take
from .dynamics import LANES, mark_escaped

_LOG2 = np.log(2.0)
_MANTISSA = np.int64(0x000FFFFFFFFFFFFF)
_ONE = np.int64(0x3FF0000000000000)
_EXPONENT_BIAS = np.int64(1023)
_MANTISSA_BITS = np.int64(52)


@njit(error_model="numpy")
def orthonormalise(frame, mantissa, exponent):
    """Modified Gram-Schmidt in place on `frame` (m, d, lanes), every lane for itself.

    The norms multiply `mantissa` (m, lanes), their powers of two are counted in `exponent`: a product of
    mantissas grows by less than 2 a time, so a logarithm is needed only once in hundreds of steps. A zero
    vector counts as the smallest normal number and is replaced by zero. Lanes are the innermost loop
    throughout, for the vectoriser.
    """
    m, d, lanes = frame.shape
    work = np.empty(lanes)
    for k in range(m):
        for j in range(k):
            work[:] = 0.0
            for i in range(d):
                for lane in range(lanes):
                    work[lane] += frame[j, i, lane] * frame[k, i, lane]
            for i in range(d):
                for lane in range(lanes):
                    frame[k, i, lane] -= work[lane] * frame[j, i, lane]
        work[:] = 0.0
        for i in range(d):
            for lane in range(lanes):
                work[lane] += frame[k, i, lane] * frame[k, i, lane]
        for lane in range(lanes):
            norm = np.sqrt(work[lane])
            work[lane] = 1.0 / norm if norm > 0 else 0.0
            bits = np.float64(norm).view(np.int64)
            exponent[k, lane] += (bits >> _MANTISSA_BITS) - _EXPONENT_BIAS
            mantissa[k, lane] *= np.int64((bits & _MANTISSA) | _ONE).view(np.float64)
        for i in range(d):
            for lane in range(lanes):
                frame[k, i, lane] *= work[lane]


@njit(parallel=True)
def accumulate_logs(
    step,
    jacobian,
    states,
    frames,
    parameters,
    u_like,
    p_like,
    frame_like,
    transient,
    length,
    every,
    escape,
    stop,
    sums,
):
    """Sum log R_ii over windows: `sums` (windows, m, pixels). States and frames move along in place.

    Frames are made orthogonal every `every` steps, and moved four steps at a time where that divides.
    """
    n_windows, m, pixels = sums.shape
    for block in prange((pixels + LANES - 1) // LANES):
        lanes = slice(block * LANES, min((block + 1) * LANES, pixels))
        u, p = states[:, lanes].copy(), parameters[:, lanes].copy()
        frame = frames[:, :, lanes].copy()
        for t in range(transient):
            mark_escaped(u, t, escape, stop[lanes])
            for lane in range(u.shape[1]):
                put(u, lane, step(take(u, lane, u_like), take(p, lane, p_like)))
        mantissa = np.ones((m, u.shape[1]))
        exponent = np.zeros((m, u.shape[1]), np.int64)
        for window in range(n_windows):
            for t in range(0, length, every):
                mark_escaped(u, transient + window * length + t, escape, stop[lanes])
                for _ in range(every // 4):
                    for lane in range(u.shape[1]):
                        push(
                            step,
                            jacobian,
                            u,
                            frame,
                            p,
                            lane,
                            u_like,
                            p_like,
                            frame_like,
                            (0.0, 0.0, 0.0, 0.0),
                        )
                for _ in range(every % 4):
                    for lane in range(u.shape[1]):
                        push(step, jacobian, u, frame, p, lane, u_like, p_like, frame_like, (0.0,))
                orthonormalise(frame, mantissa, exponent)
                if t % 512 == 0 or t + every >= length:
                    for k in range(m):
                        for lane in range(u.shape[1]):
                            sums[window, k, block * LANES + lane] += (
                                np.log(mantissa[k, lane]) + exponent[k, lane] * _LOG2
                            )
                            mantissa[k, lane] = 1.0
                            exponent[k, lane] = 0
        mark_escaped(u, transient + n_windows * length, escape, stop[lanes])
        states[:, lanes] = u
        frames[:, :, lanes] = frame
