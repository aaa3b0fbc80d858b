"""What a run works with: context, cached steps, progress, processes, the machine."""
