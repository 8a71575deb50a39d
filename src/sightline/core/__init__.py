"""The native core, loaded: one shared library with a plain C interface (``native/include/sightline.h``)."""
