"""Measurements in processes of their own."""
