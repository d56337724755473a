"""The lean training step: a backward pass that keeps what theory says it takes, and no more."""
