"""Key hashes of twemproxy (nutcracker 0.5), bit for bit.

Every function takes the key's bytes and returns an unsigned 32-bit number. Where twemproxy reads
the key through C's ``char`` the result depends on whether ``char`` is signed on the machine: bytes
of 0x80 and more hash differently on x86-64 (signed, what is modelled here) and on arm64
(unsigned). ``PORTABLE`` lists the hashes for which that makes no difference.
"""

import binascii
import hashlib
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

KeyHash = Callable[[bytes], int]

_MASK = 0xFFFFFFFF
_SIGN = 0x80


def _signed(byte: int) -> int:
    """The byte as a sign-extended ``char`` converted to ``uint32_t``."""
    return byte if byte < _SIGN else byte | 0xFFFFFF00


def md5(key: bytes) -> int:
    """The first four bytes of the digest."""
    return int.from_bytes(hashlib.md5(key, usedforsecurity=False).digest()[:4], "little")


def murmur(key: bytes) -> int:
    """MurmurHash2 with twemproxy's seed."""
    multiplier = 0x5BD1E995
    length = len(key)
    value = ((0xDEADBEEF * length) ^ length) & _MASK
    whole = length & ~3
    for (word,) in struct.iter_unpack("<I", key[:whole]):
        mixed = (word * multiplier) & _MASK
        mixed ^= mixed >> 24
        mixed = (mixed * multiplier) & _MASK
        value = ((value * multiplier) & _MASK) ^ mixed
    if tail := key[whole:]:
        value = ((value ^ int.from_bytes(tail, "little")) * multiplier) & _MASK
    value ^= value >> 13
    value = (value * multiplier) & _MASK
    return value ^ (value >> 15)


def fnv1a_64(key: bytes) -> int:
    """Called 64, yet twemproxy computes it with 32 bits."""
    value = 0x84222325
    for byte in key:
        value = ((value ^ _signed(byte)) * 0x1B3) & _MASK
    return value


def fnv1_64(key: bytes) -> int:
    """FNV-1 of 64 bits, cut to 32."""
    # The low 32 bits of the product depend on the low 32 bits of its factors only.
    value = 0x84222325
    for byte in key:
        value = ((value * 0x1B3) & _MASK) ^ _signed(byte)
    return value


def fnv1a_32(key: bytes) -> int:
    """FNV-1a of 32 bits."""
    value = 0x811C9DC5
    for byte in key:
        value = ((value ^ _signed(byte)) * 0x01000193) & _MASK
    return value


def fnv1_32(key: bytes) -> int:
    """FNV-1 of 32 bits."""
    value = 0x811C9DC5
    for byte in key:
        value = ((value * 0x01000193) & _MASK) ^ _signed(byte)
    return value


def crc32(key: bytes) -> int:
    """15 bits of the checksum, as libmemcached does: useless with ketama."""
    return (binascii.crc32(key) >> 16) & 0x7FFF


def crc32a(key: bytes) -> int:
    """The standard checksum."""
    return binascii.crc32(key)


def _crc16_table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index << 8
        for _ in range(8):
            value = (value << 1) ^ (0x1021 if value & 0x8000 else 0)
        table.append(value & 0xFFFF)
    return tuple(table)


_CRC16 = _crc16_table()


def crc16(key: bytes) -> int:
    """CRC-16/XMODEM in a register that is never cut to 16 bits."""
    value = 0
    for byte in key:
        value = ((value << 8) & _MASK) ^ _CRC16[((value >> 8) ^ byte) & 0xFF]
    return value


def one_at_a_time(key: bytes) -> int:
    """Bob Jenkins' one-at-a-time."""
    value = 0
    for byte in key:
        value = (value + _signed(byte)) & _MASK
        value = (value + (value << 10)) & _MASK
        value ^= value >> 6
    value = (value + (value << 3)) & _MASK
    value ^= value >> 11
    return (value + (value << 15)) & _MASK


def hsieh(key: bytes) -> int:
    """Paul Hsieh's SuperFastHash, from 0."""
    value = 0
    whole = len(key) & ~3
    for low, high in struct.iter_unpack("<HH", key[:whole]):
        value = (value + low) & _MASK
        value = ((value << 16) & _MASK) ^ (high << 11) ^ value
        value = (value + (value >> 11)) & _MASK
    pair, odd = key[whole:][: len(key) & 2], key[len(key) & ~1 :]
    if pair and odd:
        value = (value + int.from_bytes(pair, "little")) & _MASK
        value ^= (value << 16) & _MASK
        value ^= (_signed(odd[0]) << 18) & _MASK
        value = (value + (value >> 11)) & _MASK
    elif pair:
        value = (value + int.from_bytes(pair, "little")) & _MASK
        value ^= (value << 11) & _MASK
        value = (value + (value >> 17)) & _MASK
    elif odd:
        value = (value + odd[0]) & _MASK
        value ^= (value << 10) & _MASK
        value = (value + (value >> 1)) & _MASK
    value ^= (value << 3) & _MASK
    value = (value + (value >> 5)) & _MASK
    value ^= (value << 4) & _MASK
    value = (value + (value >> 17)) & _MASK
    value ^= (value << 25) & _MASK
    return (value + (value >> 6)) & _MASK


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) & _MASK) | (value >> (32 - bits))


def jenkins(key: bytes) -> int:
    """Bob Jenkins' lookup3, from 13."""
    a: int
    b: int
    c: int
    a = b = c = (0xDEADBEEF + len(key) + 13) & _MASK
    if not key:
        return c
    last = (len(key) - 1) // 12 * 12
    for x, y, z in struct.iter_unpack("<III", key[:last]):
        a, b, c = (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
        a = ((a - c) & _MASK) ^ _rotate(c, 4)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _rotate(a, 6)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _rotate(b, 8)
        b = (b + a) & _MASK
        a = ((a - c) & _MASK) ^ _rotate(c, 16)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _rotate(a, 19)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _rotate(b, 4)
        b = (b + a) & _MASK
    x, y, z = struct.unpack("<III", key[last:].ljust(12, b"\0"))
    a, b, c = (a + x) & _MASK, (b + y) & _MASK, (c + z) & _MASK
    c = ((c ^ b) - _rotate(b, 14)) & _MASK
    a = ((a ^ c) - _rotate(c, 11)) & _MASK
    b = ((b ^ a) - _rotate(a, 25)) & _MASK
    c = ((c ^ b) - _rotate(b, 16)) & _MASK
    a = ((a ^ c) - _rotate(c, 4)) & _MASK
    b = ((b ^ a) - _rotate(a, 14)) & _MASK
    return ((c ^ b) - _rotate(b, 24)) & _MASK


HASHES: Mapping[str, KeyHash] = MappingProxyType(
    {
        "one_at_a_time": one_at_a_time,
        "md5": md5,
        "crc16": crc16,
        "crc32": crc32,
        "crc32a": crc32a,
        "fnv1_64": fnv1_64,
        "fnv1a_64": fnv1a_64,
        "fnv1_32": fnv1_32,
        "fnv1a_32": fnv1a_32,
        "hsieh": hsieh,
        "murmur": murmur,
        "jenkins": jenkins,
    }
)
"""Every key hash of twemproxy by the name its configuration gives it."""

PORTABLE = frozenset({"md5", "crc16", "crc32", "crc32a", "murmur", "jenkins"})
"""Hashes whose result for any key is the same on every processor architecture."""
