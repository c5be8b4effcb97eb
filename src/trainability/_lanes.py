"""Tuples in and out of arrays inside compiled loops.

A map's step takes and gives tuples, so that the code reads like the formula and runs on floats,
`mpmath` numbers and `sympy` symbols alike. Kernels hold many states at once in arrays of shape
(d, lanes). `take` and `put` move a column between the two; their bodies are unrolled at compile time
for the tuple's length, which is what lets LLVM vectorise the loop over lanes.
"""

from numba.extending import overload


def take(block, lane, like):
    """Return column `lane` of `block`, shape (d, lanes), as a tuple as long as the tuple `like`."""
    raise NotImplementedError("compiled code only")


def put(block, lane, values):
    """Write the tuple `values` into column `lane` of `block`, shape (d, lanes)."""
    raise NotImplementedError("compiled code only")


def matvec(rows, vector):
    """Product of a matrix, a tuple of row tuples, with a vector, a tuple."""
    raise NotImplementedError("compiled code only")


def _compile(source):
    namespace: dict = {}
    exec(source, namespace)
    return namespace["body"]


@overload(take)
def _take(block, lane, like):
    items = " ".join(f"block[{i}, lane]," for i in range(len(like)))
    return _compile(f"def body(block, lane, like):\n    return ({items})")


@overload(put)
def _put(block, lane, values):
    lines = "".join(f"    block[{i}, lane] = values[{i}]\n" for i in range(len(values)))
    return _compile(f"def body(block, lane, values):\n{lines}")


@overload(matvec)
def _matvec(rows, vector):
    d = range(len(vector))
    rows_out = " ".join(
        " + ".join(f"rows[{i}][{j}] * vector[{j}]" for j in d) + "," for i in range(len(rows))
    )
    return _compile(f"def body(rows, vector):\n    return ({rows_out})")


def push_frame(frame, lane, rows):
    """Multiply the m tangent vectors of `frame` (m, d, lanes) at `lane` by the matrix `rows`, in place."""
    raise NotImplementedError("compiled code only")


@overload(push_frame)
def _push_frame(frame, lane, rows):
    # As many vectors as dimensions; a frame of fewer is guarded by its length, known to be small.
    d = len(rows)
    lines = []
    for m in range(d):
        lines.append(f"    if frame.shape[0] > {m}:")
        lines += [f"        w{j} = frame[{m}, {j}, lane]" for j in range(d)]
        lines += [
            f"        frame[{m}, {i}, lane] = " + " + ".join(f"rows[{i}][{j}] * w{j}" for j in range(d))
            for i in range(d)
        ]
    return _compile("def body(frame, lane, rows):\n" + "\n".join(lines))
