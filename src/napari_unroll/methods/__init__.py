"""How to invert: one record of parameters and one generator of events per method, and their registry."""
