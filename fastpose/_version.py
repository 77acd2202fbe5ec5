"""The one place where the version stands; pyproject.toml and the native core read it from here."""

__version__ = "0.1.0"
