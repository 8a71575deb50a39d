"""What .parquet files and plots need beyond Sightline itself."""

INSTALL = 'pip install "sightline[profile]"'
