"""Checks briefly and once whether the hub answers: its own client tries five times, for half a minute."""

from __future__ import annotations

import urllib.error
import urllib.request
from urllib.parse import urlsplit

TIMEOUT = 4.0  # seconds
_answered: set[str] = set()


def absence(endpoint: str, *, timeout: float = TIMEOUT) -> str:
    """Return why the hub at this address cannot be reached, or an empty text where it answers anything.

    Proxies are taken from the environment, as by the hub's own client. Certificates are left to that client.
    """
    if endpoint in _answered:
        return ""
    if urlsplit(endpoint).scheme not in {"http", "https"}:
        return f"{endpoint} is not a valid hub address: HF_ENDPOINT must begin with https://"
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=timeout).close()  # noqa: S310
    except urllib.error.HTTPError:
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if "SSL" not in type(reason).__name__:  # some builds of Python have no ssl to take the class from
            return f"{urlsplit(endpoint).netloc} does not answer ({reason})"
    _answered.add(endpoint)
    return ""
