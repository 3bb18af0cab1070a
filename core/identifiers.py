"""Short identifiers for rows, keys and buttons."""

import secrets

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def new_id(length: int = 12) -> str:
    """A random identifier that can be read aloud: lower-case letters and digits without look-alikes; 60 bits at 12 characters."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
