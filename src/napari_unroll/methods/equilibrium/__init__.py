"""Fixed points z = f(z) as layers: their search, their gradients, and what bounds a network so that they exist."""
