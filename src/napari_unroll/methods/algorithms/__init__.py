"""How priors and data steps make an algorithm: unrolled iterations, one pass, plug-and-play."""
