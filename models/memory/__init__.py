"""What TensorFlow's allocator hands out, and how it is measured."""
