"""The story of one run, and what it leaves behind."""
