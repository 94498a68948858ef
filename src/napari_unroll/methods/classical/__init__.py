"""Methods without learned parts: one operator application, least squares, total variation."""
