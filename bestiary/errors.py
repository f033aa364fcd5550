"""The one family of errors.

A message says what happened, to which file or argument, and what to do next, in at most three lines. The command line
prints just that and leaves with the class's `exit_code`.
"""

import errno


class BestiaryError(Exception):
    """Anything that Bestiary itself reports; catch this one to catch them all."""

    exit_code = 1


class UnknownModel(BestiaryError):
    """No card has that name; the message lists the nearest names."""

    exit_code = 3


class UnknownDataset(BestiaryError):
    """No card of a data set has that name; the message lists the nearest names."""

    exit_code = 12


class CardError(BestiaryError):
    """A card is malformed; the message names its file, the key and the expected form."""

    exit_code = 4


class IntegrityError(BestiaryError):
    """Bytes do not have the size or sha256 that the card gives."""

    exit_code = 5


class OfflineError(BestiaryError):
    """The network is needed and is either switched off or not there."""

    exit_code = 6


class SourceError(BestiaryError):
    """No source could yield a file."""

    exit_code = 7


class LicenseError(BestiaryError):
    """A licence asks to be accepted first."""

    exit_code = 8


class DiskFullError(BestiaryError):
    """The disk cannot take the file."""

    exit_code = 9


class LayoutError(BestiaryError):
    """A weights file or a config is not what its layout promises: keys, shapes, dtypes, or the container itself."""

    exit_code = 10


class InputError(BestiaryError):
    """An argument or an input of a model cannot be used."""

    exit_code = 11


def of_writing(error: OSError) -> type[BestiaryError]:
    """What a write that failed is: DiskFullError where the disk takes no more, else InputError, as the place cannot be used."""
    return DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else InputError
