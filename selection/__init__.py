"""From forward activations to a Selection: which layers of a network are retrained."""
