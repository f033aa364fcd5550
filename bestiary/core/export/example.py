"""Examples with places to fill in."""


def filled(example: str, /, **places: object) -> str:
    """An example with its places filled in.

    >>> filled("<limit> tokens", limit=3)
    '3 tokens'
    """
    for name, value in places.items():
        example = example.replace(f"<{name}>", str(value))
    return example
