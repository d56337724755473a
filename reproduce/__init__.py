"""The paper's tables and figures out of many runs: ``python -m reproduce``."""
