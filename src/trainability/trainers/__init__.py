"""Trainers, one file for each network: pixels of hyperparameters in, raw observables out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
