"""Interactive 3-D reconstruction with deep unrolled networks."""

import os

__version__ = "0.1.0"

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
"""torch asks for large pages for large tensors (Linux): making one costs a fifth. Read when the first tensor is made."""

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
"""Threads of torch (GNU OpenMP) sleep soon where they wait for each other, instead of keeping the processor that the other
one needs. Read when torch is loaded."""
