"""The systems that Sightline has wheels for: building for each of them here, and running what was built.

``make platforms`` runs ``python -m platforms check``, ``make wheel`` runs ``python -m platforms wheel``.
"""
