"""From empty channels to a smaller network."""
