"""Benchmark this project against the alternatives that a user would choose."""
