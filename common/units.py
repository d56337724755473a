"""Units that sizes are counted in."""

FLOAT_BYTES = 4  # of a float32
MB = 1e6  # bytes
