"""Time and memory, measured side by side. ``make bench`` runs it all; see ``__main__.py``."""

import os

# Read by TensorFlow when it is first imported, as in main.py; set here, where every benchmark
# passes through before it imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
