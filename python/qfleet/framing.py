"""Messages on a stream socket: each is preceded by its size, 4 bytes,
little-endian (proto/qfleet/v1/environment.proto). Needs no Protobuf, so that
its absence can be told to the other side.
"""

import struct

_SIZE = struct.Struct("<I")


def receive(stream):
    """The next message of a buffered reader; None at its end."""
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    message = stream.read(size)
    return message if len(message) == size else None


def send(sock, message):
    sock.sendall(_SIZE.pack(len(message)) + message)


def delimited(number, data):
    """A field of bytes, a string or packed elements, as Protobuf encodes it.

    Serialised messages can be joined: what comes later is added.
    """
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def error_reply(text, fatal=False):
    """A serialised EnvironmentReply with `error` and `fatal`."""
    reply = delimited(1, " ".join(text.split()).encode())
    return reply + _varint(10 << 3) + b"\x01" if fatal else reply


def _varint(value):
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
