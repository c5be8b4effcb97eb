"""Token geometry of randomly initialised transformers: how angles and gradients travel through the blocks."""

from .initialization import Exponents, Initialization

__all__ = ["Exponents", "Initialization"]
