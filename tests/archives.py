"""Small archives as the tests want them: what is in them by its name; a link is (what it leads to,)."""

import io
import struct
import tarfile
import zipfile
import zlib

Content = dict[str, bytes | tuple[str]]  # a folder ends in /


def as_zip(content: Content) -> bytes:
    """A ZIP archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if isinstance(data, tuple) else 0o100644) << 16
            archive.writestr(info, data[0] if isinstance(data, tuple) else data)
    return stream.getvalue()


def as_tar(content: Content) -> bytes:
    """A TAR archive, compressed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in content.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            if isinstance(data, tuple):
                info.type, info.linkname = tarfile.SYMTYPE, data[0]
            elif name.endswith("/"):
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return stream.getvalue()


def as_rar(content: Content) -> bytes:
    """A RAR archive of version 3, which UCF-101 is, that stores its files as they are."""
    blocks = [_rar_block(0x73, 0, bytes(6))]
    for name, data in content.items():
        mode = 0o120777 if isinstance(data, tuple) else 0o100644
        name = name.replace("/", "\\")  # as RAR does on every system
        stored, flags = (data[0].encode() if isinstance(data, tuple) else data), 0x8000
        if name.endswith("\\"):
            name, mode, flags = name[:-1], 0o40755, 0x80E0
        unix, version, uncompressed = 3, 20, 0x30
        head = struct.pack("<IIBII", len(stored), len(stored), unix, zlib.crc32(stored), 0x58_21_00_00)
        head += struct.pack("<BBHI", version, uncompressed, len(name), mode) + name.encode()
        blocks.append(_rar_block(0x74, flags, head) + stored)
    return b"Rar!\x1a\x07\x00" + b"".join(blocks) + _rar_block(0x7B, 0x4000, b"")


def _rar_block(kind: int, flags: int, head: bytes) -> bytes:
    about = struct.pack("<BHH", kind, flags, 7 + len(head)) + head
    return struct.pack("<H", zlib.crc32(about) & 0xFFFF) + about


WRITERS = {"zip": as_zip, "tar.gz": as_tar, "rar": as_rar}
