"""Predict where a neural network trains, then check the prediction against maps of real training runs."""

import lazy_loader

# The public names and where they live stand in `__init__.pyi`; nothing is imported before it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
