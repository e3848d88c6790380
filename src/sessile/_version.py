"""The version of the package, in one place: packaging reads it without importing anything."""

__version__ = "0.1.0"
