"""The forward operator A and its adjoint: projectors and Fourier sampling as deepinv physics."""
