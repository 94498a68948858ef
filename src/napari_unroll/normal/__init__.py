"""The normal operator AᴴA and its approximation by convolutions and weights: fit, apply, restrict, invert."""
