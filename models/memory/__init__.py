"""What networks take: counted as the paper does, and as TensorFlow's allocator hands it out."""
