"""Whole layers and models, beside attention alone: what is computed, by whom, and how it is measured.

``case.py`` says what a case is, ``layers.py`` and ``models.py`` build them; whoever runs one has a file
``by_….py``; ``contest.py`` measures them in turn.
"""
