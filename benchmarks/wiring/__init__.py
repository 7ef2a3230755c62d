"""Modules of benchmarks/wire.py: contenders that receive decoded photographs from another process, and their measurement."""
