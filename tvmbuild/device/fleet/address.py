"""Addresses of trackers and boards: the one place where "HOST:PORT" is read and written."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from tvmbuild.support.errors import OptionError

#: The port that TVM's tracker takes by default.
DEFAULT_PORT = 9190


@dataclass(frozen=True)
class Address:
    """A host, by name or number, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return "host:port"; an IPv6 address stands in brackets, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether a host, by name or number, can be reached by this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_host(text: str) -> bool:
    """Tell whether a text can be a host: a name of letters, digits, dots and dashes, or an IPv4 or IPv6 address."""
    try:
        if ":" in text:
            # Behind "%" stands the interface of a link-local address.
            address, _, interface = text.partition("%")
            return ipaddress.IPv6Address(address) is not None and (not interface or interface.isalnum())
        # Also refuses parts that are empty or too long for the domain name system.
        name = text.encode("idna").decode()
    except ValueError:
        return False
    return not name.startswith("-") and name.translate(str.maketrans("", "", "-_.")).isalnum()


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Return the address in "HOST:PORT", "HOST", "[IPV6]:PORT" or "[IPV6]".

    Raises:
        OptionError: it is none.
    """
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else "" if rest else str(default_port)
        fits = bool(closed) and ":" in host
    else:
        host, colon, port = text.partition(":")
        port = port if colon else str(default_port)
        fits = True
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if not fits or not is_host(host) or not digits or not 0 < int(port) < 65536:
        hint = "Write HOST:PORT, for example 192.168.1.7:9190."
        if text.count(":") > 1:
            hint = "Write an IPv6 address in brackets, for example [::1]:9190."
        raise OptionError(f"'{text}' is no address of a tracker.", hint)
    return Address(host, int(port))
