"""Shipped checkpoints, safetensors with a model card each; found by name."""
