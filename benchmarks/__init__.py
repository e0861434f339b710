"""What mailbridge costs, beside what others cost. Run it with ``python -m benchmarks``."""
