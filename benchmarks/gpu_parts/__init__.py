"""The parts of ``benchmarks/gpu.py``: each lists its jobs, and a job yields rows of figures."""
