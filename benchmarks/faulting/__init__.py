"""What make bench-faults runs: cells of the fault matrix, each a job on the emulator."""
