"""Errors of the registry; each says what was wrong and what to do."""


class RegistryError(RuntimeError):
    """Report why the registry is unusable and how to fix it."""


class UnknownVersionError(RegistryError):
    """Report an alias or a version that is not in the registry."""


class RefusedVersionError(RegistryError):
    """Report a version whose files are damaged or differ from those registered."""
