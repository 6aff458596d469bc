"""Words that depend on a number."""


def counted(number: int, thing: str) -> str:
    """Return "1 layer", "2 layers"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
