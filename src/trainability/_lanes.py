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


def push(step, jacobian, u, frame, p, lane, u_like, p_like, frame_like, rounds):
    """Advance a state and its tangent vectors by as many steps as the tuple `rounds` is long, in registers.

    `u` (d, lanes) and `frame` (m, d, lanes) change in place at `lane`; m is the length of `frame_like`.
    """
    raise NotImplementedError("compiled code only")


def multiply(left, right):
    """Product of two square matrices, tuples of row tuples."""
    raise NotImplementedError("compiled code only")


def _compile(source):
    namespace: dict = {"take": take, "put": put}
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


@overload(push)
def _push(step, jacobian, u, frame, p, lane, u_like, p_like, frame_like, rounds):
    d, m = range(len(u_like)), range(len(frame_like))
    lines = ["here = take(u, lane, u_like)", "at = take(p, lane, p_like)"]
    lines += [f"w{k}_{i} = frame[{k}, {i}, lane]" for k in m for i in d]
    for _ in range(len(rounds)):
        lines.append("rows = jacobian(here, at)")
        for k in m:
            new = (" + ".join(f"rows[{i}][{j}] * w{k}_{j}" for j in d) for i in d)
            lines.append(f"{', '.join(f'w{k}_{i}' for i in d)} = {', '.join(new)}")
        lines.append("here = step(here, at)")
    lines += [f"frame[{k}, {i}, lane] = w{k}_{i}" for k in m for i in d]
    lines.append("put(u, lane, here)")
    arguments = "step, jacobian, u, frame, p, lane, u_like, p_like, frame_like, rounds"
    return _compile(f"def body({arguments}):\n" + "".join(f"    {line}\n" for line in lines))


@overload(multiply)
def _multiply(left, right):
    d = range(len(left))
    rows = (
        "(" + " ".join(" + ".join(f"left[{i}][{k}] * right[{k}][{j}]" for k in d) + "," for j in d) + "),"
        for i in d
    )
    return _compile(f"def body(left, right):\n    return ({' '.join(rows)})")
