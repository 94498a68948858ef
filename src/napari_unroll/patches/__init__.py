"""Domain partitioning: patch grids, blending, and the local problem of a patch in its context."""
