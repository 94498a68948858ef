"""Networks that learned methods share: deepinv's where it has them, wrapped to volumes real or complex."""
