"""The same training step in other libraries: PyTorch, and Keras' own ``fit``.

Each runs in a process of its own, which takes a step whenever it is told to, so that all of them
are timed in turn.
"""
