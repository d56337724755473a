"""A network computed for all images at once, a few rows of each map at a time.

What the field calls line buffers: every layer is computed row by row as soon as the rows are there
that its kernel reaches, and what no kernel will reach again is freed. Nothing is computed twice, so
that this takes the arithmetic of one forward pass, and the memory of some rows.
"""
