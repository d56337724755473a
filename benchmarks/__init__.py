"""Time and memory, measured side by side. ``make bench`` runs it all; see ``__main__.py``."""

from common.environment import prepare_tensorflow

prepare_tensorflow()  # every benchmark passes through here before it imports TensorFlow
