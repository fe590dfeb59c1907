"""What is known of torch, NumPy and SciPy."""
