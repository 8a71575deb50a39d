"""Other people's published numbers, met through Sightline: `make published` runs `python -m published`."""
