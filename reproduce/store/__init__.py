"""Runs that were made, and which ones are wanted."""
