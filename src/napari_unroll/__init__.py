"""Interactive 3-D reconstruction with deep unrolled networks."""

__version__ = "0.1.0"
