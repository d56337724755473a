"""Backbones, and what a selectable layer of a built network is."""
