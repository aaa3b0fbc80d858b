"""Trainings that feed and compute as the released code of each protocol does: what ddbench is timed against.

Written from what that code does, in own words. What is kept is what costs time or changes numbers: how images reach the
network, every forward pass, tests, optimisers made as they make them, fp32, PyTorch's own memory layout and allocator.
Files and fast paths of ddbench are not used.
"""
