"""What CSV and JSON Lines share: UTF-8 text, in a file that may be compressed."""

from __future__ import annotations

from typing import Any

BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
_BLANK = b" \t\r\n"
# The first bytes of files that are not UTF-8 text, longest first.
_OTHERS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a zip archive"),
    (GZIP_MAGIC, "gzip data; add .gz to its name"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"BZh", "bzip2 data"),
)
_HEAD_BYTES = 256
_GZIP_ERRORS, _NO_GZIP = ("zlib", "Truncated compressed"), "incorrect header check"


def clean_head(data: bytes) -> bytes:
    """Return the first bytes of a text file without a byte order mark.

    Raises:
      ValueError: the file is not UTF-8 text; the message says what it is.
    """
    for magic, what in _OTHERS:
        if data.startswith(magic):
            raise ValueError(f"expected UTF-8 text, got {what}{_how_to_convert(what)}")
    head = data[:_HEAD_BYTES]
    if head[1:2] == b"\0" or head[:1] == b"\0":
        what = "zero bytes, as in UTF-16 or a file that was never filled"
        raise ValueError(f"expected UTF-8 text, got {what}{_how_to_convert('UTF-16')}")
    return data.removeprefix(BOM)


def _how_to_convert(what: str) -> str:
    return ". Convert it, such as with iconv -f UTF-16 -t UTF-8" if what == "UTF-16" else ""


def is_blank(data: bytes) -> bool:
    """Return whether there is nothing but white space."""
    return not data[:_HEAD_BYTES].strip(_BLANK) and not data.strip(_BLANK)


def read_bytes(stream: Any, size: int) -> bytes:
    """Return the next bytes of a file.

    Raises:
      ValueError: the compressed data is damaged, or was cut off.
      OSError: the store did not answer.
    """
    try:
        return stream.read(size)
    except OSError as e:
        if any(sign in str(e) for sign in _GZIP_ERRORS):
            raise ValueError(explain_gzip(e)) from e
        raise


def explain_gzip(error: OSError) -> str:
    """Return the problem of compressed data; another error is returned as it is."""
    text = str(error)
    if not any(sign in text for sign in _GZIP_ERRORS):
        return text
    plain = ", or it is not compressed, though its name ends in .gz" if _NO_GZIP in text else ""
    return f"its gzip data is damaged, cut off, or followed by more{plain}: {text}"
