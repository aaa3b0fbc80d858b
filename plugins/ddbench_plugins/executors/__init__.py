"""Executors: where the workers of a run are started."""

from __future__ import annotations

from ddbench import ExecutorSpec, hookimpl


@hookimpl
def ddbench_executors() -> list[ExecutorSpec]:
    """Return the built-in executors."""
    return [
        ExecutorSpec(
            name="local",
            target="ddbench_plugins.executors.local:Local",
            summary="workers on this machine: one per GPU, or several that share its cores",
        ),
        ExecutorSpec(
            name="slurm",
            target="ddbench_plugins.executors.slurm:Slurm",
            summary="workers as jobs of a Slurm cluster (pip install 'ddbench[slurm]')",
        ),
        ExecutorSpec(
            name="ray",
            target="ddbench_plugins.executors.ray:OnRay",
            summary="workers as tasks of a Ray cluster, or of one started here (pip install 'ddbench[ray]')",
        ),
    ]
