"""``sightline bench``: Sightline against its peers, side by side in one run.

A *section* is a list of cases and a table; a *peer* is one library's attention; a *case* is one problem that
every peer gets. Each peer lives in a file of its own and says what it can do; its result is compared with
float64 before it is timed; libraries that bring threads of their own run in a process of their own.
"""
