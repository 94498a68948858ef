"""What networks are trained to do: local problems in their context, or removing noise."""
