"""ElasticTrainer's selection: importance of tensors against their time."""
