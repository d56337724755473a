"""Data sets, decoded images, batches."""
