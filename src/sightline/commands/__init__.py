"""What `sightline` does at a terminal: a file for each command."""
