"""Trainers: one file for each network; a tile of hyperparameters in, raw observables out."""
