"""The pre-trained networks that can be retrained."""
