"""From a selection to a result: data, training, and what a run leaves behind."""
