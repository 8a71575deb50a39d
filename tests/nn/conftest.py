"""Shared by the tests of layers."""

from wings import wing

__all__ = ["wing"]
