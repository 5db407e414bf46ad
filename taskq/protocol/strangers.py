"""Those at the other end who do not speak taskq at all: told apart by their first four bytes, and answered.

Their bytes, read as a frame's length, are always over the limit; so looking costs other peers nothing.
"""

from typing import Final

from taskq.protocol.frames import FrameTooLong, ProtocolError

_HTTP_METHODS: Final = frozenset(
    {b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"PATC", b"OPTI", b"CONN", b"TRAC", b"PRI "}
)
_HTTP_BODY: Final = (
    b"This is the port of a taskq broker. It does not speak HTTP; --http of the broker does.\n"
)
_HTTP_REPLY: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_HTTP_BODY), _HTTP_BODY)
)
_TLS_HANDSHAKE: Final = b"\x16\x03"
_TLS_ALERT: Final = b"\x15\x03"


def caller_fault(error: FrameTooLong) -> ProtocolError:
    """What a broker says when a connection begins like this."""
    if error.header in _HTTP_METHODS:
        return ProtocolError(
            "http", "somebody speaks HTTP to the broker's port; HTTP is at --http", reply=_HTTP_REPLY
        )
    if error.header.startswith(_TLS_HANDSHAKE):
        # No words: what a TLS client cannot read would only confuse it.
        return ProtocolError("tls", "somebody speaks TLS to a port without TLS", reply=b"")
    return error


def callee_fault(error: FrameTooLong) -> ProtocolError:
    """What a peer says when it is greeted like this."""
    if error.header == b"HTTP":
        return ProtocolError("http", "an HTTP server answers at this address, not a taskq broker")
    if error.header.startswith(_TLS_ALERT):
        return ProtocolError("tls", "a TLS server answers at this address, not a taskq broker")
    return ProtocolError("malformed", f"no taskq broker answers at this address: {error.text}")
