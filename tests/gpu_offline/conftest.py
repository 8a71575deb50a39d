"""What make test-gpu-offline runs."""

collect_ignore = [
    "compiling.py",
    "interpreting.py",
    "written.py",
]  # without tests of their own, and in need of Triton
