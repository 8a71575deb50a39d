"""Where queries stand among the keys, and which keys a row may see, as ranges."""
