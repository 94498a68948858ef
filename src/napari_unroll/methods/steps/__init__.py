"""The data side of a learned iteration: the first estimate, gradient and resolvent steps on a volume or on patches."""
