"""What make test-gpu-offline runs."""

collect_ignore = ["compiling.py"]  # it has no tests of its own, and needs Triton
