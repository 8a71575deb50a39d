"""``sightline serve``: traces of any length in the browser, weights computed when they come into view."""
