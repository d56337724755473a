"""A network as operations: which are computed in one piece, and what is alive when."""
