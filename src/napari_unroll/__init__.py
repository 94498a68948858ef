"""Interactive 3-D reconstruction with deep unrolled networks."""

import os

__version__ = "0.1.0"

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
"""torch asks for large pages for large tensors (Linux): making one costs a fifth. Read when the first tensor is made."""
