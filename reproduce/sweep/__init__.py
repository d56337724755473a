"""Carrying out many runs, each once."""
