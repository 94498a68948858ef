"""Deep unrolled methods."""
