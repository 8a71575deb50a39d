"""Notebooks that are kept with what their cells showed.

``make notebooks`` runs ``python -m notebooks``, which executes them anew.
"""
