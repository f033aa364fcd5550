"""Which rows of a data set without splits of its own are held out: decided once, by what a row is about."""

from hashlib import sha256


def split_of(key: str) -> str:
    """A tenth is `test`, a tenth `validation`, the rest `train`, as the sha256 of the key falls.

    >>> split_of("1F34E")   # an apple
    'train'
    """
    share = int(sha256(key.encode()).hexdigest()[:8], 16) % 100
    return "test" if share < 10 else "validation" if share < 20 else "train"
