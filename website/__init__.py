"""The documentation's site: `make site`.

``contents`` reads the order of the pages from docs/README.md, ``source`` copies them for Sphinx,
``reference`` writes the pages of the API from what is public, ``command_line`` those of the commands,
``gallery`` makes the pages of the gallery, ``llms`` writes llms.txt, ``links`` checks that every link leads
somewhere. ``conf.py`` is Sphinx's, ``docstrings`` what it adds.
"""
