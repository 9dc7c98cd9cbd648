"""What the engine costs, against a plain forward pass and against peers: ``python -m benchmarks.engines``."""
