"""What pytest leaves alone."""

collect_ignore = ["in_two_processes.py"]  # a script for torchrun; test_processes.py starts it
