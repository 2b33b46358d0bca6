"""What training with sharded tables costs; ``benchmarks/sharded.py`` is its command."""
