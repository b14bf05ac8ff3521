"""Benchmarks of bbipc against what a program would use instead. The command is ``python -m tests.benchmarks``."""
