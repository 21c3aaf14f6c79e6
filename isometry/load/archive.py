"""A zip archive, screened before anything is read from it."""

from __future__ import annotations

import struct
import zipfile
import zlib

from isometry.errors import LoadError, RefusedError
from isometry.load.source import Source
from isometry.load.wording import amount, listing, show

MAX_MEMBERS = 100_000
# A directory entry is rebuilt as a Python object of ten times its size.
_MAX_DIRECTORY = 16 << 20
_CHUNK = 1 << 20
_ENCRYPTED = 0x1

# What `zipfile` raises on a directory or a member that makes no sense.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
)


class Archive:
    """The members of a zip file that passed the screening.

    Parameters
    ----------
    source : Source
        An open file.
    deflate : bool
        Whether deflated members are accepted (NumPy writes them, torch.save does not).

    Raises
    ------
    LoadError
        The archive is damaged.
    RefusedError
        It has the marks of an archive made to do harm: compressed or overlapping
        members, names given twice, more members or bytes than the file can hold.
    """

    def __init__(self, source: Source, *, deflate: bool = False) -> None:
        """Screen the directory of an open archive."""
        self._source = source
        self._zip = directory(source)
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            self._admit(info, deflate)
        self._check_layout()

    def __contains__(self, name: str) -> bool:
        """Return whether there is a member of that name."""
        return name in self._members

    def names(self) -> list[str]:
        """Return the names of all members, in the order of the archive."""
        return list(self._members)

    def size(self, name: str) -> int:
        """Return the number of bytes of a member, as the directory declares it."""
        return self._members[name].file_size

    def read(self, name: str) -> bytearray:
        """Return a member whole; its declared size must have been checked before."""
        buffer = bytearray(self.size(name))
        self.read_into(name, memoryview(buffer))
        return buffer

    def read_into(self, name: str, buffer: memoryview) -> None:
        """Fill `buffer`, of exactly the member's size; the checksum is verified."""
        done = 0
        try:
            with self._zip.open(self._members[name]) as member:
                while chunk := member.read(_CHUNK):
                    buffer[done : done + len(chunk)] = chunk
                    done += len(chunk)
        except ZIP_ERRORS as error:
            what = "checksum mismatch" if "CRC" in str(error) else "cannot read"
            raise LoadError(
                f"{self._source.name} is damaged: {what} in {show(name)}; "
                "fetch or save the file again"
            ) from error
        if done != len(buffer):
            raise LoadError(f"{self._source.name} is damaged: {show(name)} is cut off")

    def _admit(self, info: zipfile.ZipInfo, deflate: bool) -> None:
        name = self._source.name
        allowed = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) if deflate else (zipfile.ZIP_STORED,)
        if info.flag_bits & _ENCRYPTED:
            raise RefusedError(f"refused: {name} has encrypted members")
        if info.compress_type not in allowed:
            raise RefusedError(
                f"refused: {name} has compressed members, which "
                f"{'NumPy' if deflate else 'torch.save'} never writes: {show(info.filename)} "
                f"would grow from {amount(info.compress_size)} to {amount(info.file_size)}; save "
                "the file again without compression"
            )
        if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
            raise RefusedError(f"refused: {name} declares two sizes for {show(info.filename)}")
        if info.filename in self._members:
            raise RefusedError(f"refused: {name} has two members named {show(info.filename)}")
        self._members[info.filename] = info

    def _check_layout(self) -> None:
        infos = sorted(self._members.values(), key=lambda info: info.header_offset)
        size = self._source.size
        if sum(info.compress_size for info in infos) > size:
            raise RefusedError(
                f"refused: the members of {self._source.name} claim more than its {amount(size)}"
            )
        end = 0
        for info in infos:
            if info.header_offset < end:
                raise RefusedError(
                    f"refused: {self._source.name} has overlapping members "
                    f"(at {show(info.filename)})"
                )
            # The local header takes at least 30 bytes and the name.
            end = info.header_offset + 30 + len(info.filename) + info.compress_size
        if infos and infos[0].header_offset != 0:
            raise RefusedError(f"refused: {self._source.name} has data before its first member")
        if end > size:
            raise LoadError(f"{self._source.name} is cut off at {amount(size)}; fetch it again")


def common_folder(archive: Archive, source: Source) -> str:
    """Return the one folder, with its slash, that torch.save puts all members in."""
    folders = {name.split("/", 1)[0] if "/" in name else "" for name in archive.names()}
    if len(folders) != 1 or "" in folders:
        raise RefusedError(
            f"refused: {source.name} has members in {len(folders)} top folders "
            f"({listing(sorted(folders), 4)}); torch.save writes one"
        )
    return folders.pop() + "/"


def member_names(source: Source) -> list[str] | None:
    """Return the names in an archive, or None where its directory is missing."""
    try:
        return directory(source).namelist()
    except RefusedError:
        raise
    except LoadError:
        return None


def directory(source: Source) -> zipfile.ZipFile:
    """Return an archive whose directory is of a size to be read; nothing else is checked."""
    _check_directory_size(source)
    try:
        return zipfile.ZipFile(source.handle)
    except ZIP_ERRORS as error:
        raise LoadError(
            f"{source.name} is cut off or damaged: {source.size} bytes came, "
            "and the list of members at the end cannot be read; fetch or save the file again"
        ) from error


def _check_directory_size(source: Source) -> None:
    """Refuse a directory that is too long before it becomes millions of objects."""
    # The end record is 22 bytes and a comment of at most 64 KiB; a 64-bit one, of 56
    # bytes and a locator of 20, stands before it.
    tail = source.read(22 + 76 + 0xFFFF, max(0, source.size - 22 - 76 - 0xFFFF))
    # Every place that could be taken for an end record counts, so that this check and
    # `zipfile` need not agree on which one is meant.
    count, size = 0, 0
    for mark, form, skip in ((b"PK\5\6", "<HI", 10), (b"PK\6\6", "<QQ", 32)):
        length = struct.calcsize(form)
        at = tail.find(mark)
        while at >= 0:
            record = tail[at + skip : at + skip + length]
            if len(record) == length:
                these = struct.unpack(form, record)
                # All ones: the value stands in the 64-bit record.
                if these != (0xFFFF, 0xFFFFFFFF):
                    count = max(count, these[0] if these[0] != 0xFFFF else 0)
                    size = max(size, these[1] if these[1] != 0xFFFFFFFF else 0)
            at = tail.find(mark, at + 1)
    if count > MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise RefusedError(
            f"refused: {source.name} lists {count} members in {amount(size)}; "
            f"at most {MAX_MEMBERS} are read"
        )
