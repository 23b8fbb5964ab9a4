"""Files of tensors. Each module reads one format to name -> `LazyTensor`, and executes nothing of it."""
