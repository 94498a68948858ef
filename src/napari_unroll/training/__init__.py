"""Learn a method: samples, the loop, and its checkpoints."""
