"""Names of data sets that the paper's authors and users say for short."""

from __future__ import annotations

DATASET_ALIASES = {"flowers102": "oxford_flowers102", "cub200": "caltech_birds2011"}


def resolve_dataset_name(name: str) -> str:
    """The full name behind an alias (flowers102, cub200); any other name is returned as it is."""
    return DATASET_ALIASES.get(name, name)
