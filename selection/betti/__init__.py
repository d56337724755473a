"""From activations to Betti numbers."""
