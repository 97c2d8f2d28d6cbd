"""The memory of this process."""


def peak_kb() -> int:
    """The most that it has held, in kB under Linux; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
