"""One thread for torch: the arrays are small, and a pixel's bits must not depend on the machine."""

from contextlib import contextmanager


@contextmanager
def one_thread():
    """Run torch on one thread inside, and on as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
