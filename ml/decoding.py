"""What kind of file the bytes are, and text in any encoding to UTF-8; magic bytes come before any parser."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

import charset_normalizer

from ml.findings import finding, refused, shown
from ml.records import Finding

HEAD = 65_536  # bytes that decide kind, encoding, separator and header

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "file_compressed", "a gzip archive"),
    (b"BZh9", "file_compressed", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "file_compressed", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "file_compressed", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "file_compressed", "a 7-zip archive"),
    (b"Rar!\x1a\x07", "file_compressed", "a RAR archive"),
    (b"%PDF-", "file_not_table", "a PDF document"),
    (b"\x89PNG\r\n", "file_not_table", "a PNG image"),
    (b"\xff\xd8\xff", "file_not_table", "a JPEG image"),
    (b"GIF8", "file_not_table", "a GIF image"),
    (b"II*\x00", "file_not_table", "a TIFF image"),
    (b"SQLite format 3\x00", "file_not_table", "an SQLite database"),
    (b"ARROW1\x00\x00", "file_not_table", "an Arrow file"),
    (b"\x7fELF", "file_not_table", "a program"),
    (b"\xd0\xcf\x11\xe0", "file_old_excel", "an old Office document"),
)
_TEXT_KINDS: tuple[tuple[str, str], ...] = (
    (r"\s*(<!doctype html|<html|<head|<body|<table|<meta)", "an HTML page"),
    (r"\s*<(\?xml|[a-zA-Z][\w:.-]*[\s>])", "an XML document"),
    (r'\s*(\{\s*"|\{\s*\}|\[\s*[\[{])', "a JSON document"),
    (r"\{\\rtf|%!PS|-----BEGIN ", "a document"),
)
_CONTROLS = bytes(set(range(32)) - {7, 9, 10, 11, 12, 13, 26, 27})


def refuse_by_magic(data: bytes) -> None:
    """Refuse archives, documents, images and programs by their first bytes."""
    if not data:
        raise refused("file_empty")
    for magic, code, kind in _MAGIC:
        if data.startswith(magic):
            raise refused(code, kind=kind)


def refuse_other_text(head: str) -> None:
    """Refuse HTML, XML, JSON and other text that is no table."""
    for pattern, kind in _TEXT_KINDS:
        if re.match(pattern, head, re.IGNORECASE):
            raise refused("file_not_table", kind=kind)


def _is_binary(head: bytes) -> bool:
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls >= 3 and controls > 0.02 * len(head)


_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What Western shops write; a byte that gives anything else speaks against the encoding.
_WESTERN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüœŒ€£¡¿ªº°·«»‘’“”–—…™®©´½¼¾²³\u00a0")
_WESTERN_ENCODINGS = ("cp1252", "cp850", "mac_roman")
_UTF8_PAIR = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_ASCII = bytes(range(128))


@dataclass(frozen=True)
class Text:
    """The file as UTF-8; ``damaged`` when bytes that are no text were replaced by U+FFFD."""

    data: bytes
    encoding: str
    damaged: bool = False
    bom: bool = False

    def findings(self) -> list[Finding]:
        found = []
        if self.encoding != "utf-8":
            found.append(finding("encoding_detected", "fix", encoding=self.encoding, sample=self._sample()))
        elif self.bom:
            found.append(finding("byte_order_mark", "fix"))
        return found

    def _sample(self) -> str:
        first = re.search(rb"[^\n\r,;\t|]*[\x80-\xff][^\n\r,;\t|]*", self.data)
        part = first.group()[:200] if first else self.data[:40]
        return shown(part.decode("utf-8", "replace").strip())


def to_utf8(data: bytes, encoding: str | None) -> Text:
    """The file as UTF-8, from the encoding that was asked for or the one that explains its bytes."""
    text = _decode_as(data, encoding) if encoding else _decode_detected(data)
    body = text.data.rstrip(b"\x1a\x00") if text.data.endswith((b"\x1a", b"\x00")) else text.data
    if b"\x00" in body:
        return Text(body.replace(b"\x00", "\ufffd".encode()), text.encoding, True, text.bom)
    return Text(body, text.encoding, text.damaged, text.bom)


def _decode_as(data: bytes, encoding: str) -> Text:
    try:
        info = codecs.lookup(encoding)
        "".encode(info.name)  # refuses codecs that are not text encodings (base64, zip …)
    except (LookupError, ValueError) as error:
        raise refused("encoding_unknown", encoding=shown(encoding)) from error
    name = "utf-8" if info.name == "utf-8-sig" else info.name
    bom = name == "utf-8" and data.startswith(codecs.BOM_UTF8)
    body = data[3:] if bom else data
    try:
        text = body.decode(name).removeprefix("\ufeff")
    except UnicodeError as error:
        if name == "utf-8":
            return Text(body.decode("utf-8", "replace").encode(), name, True, bom)
        raise refused("encoding_mismatch", encoding=name, detail=shown(error)) from error
    return Text(text.encode("utf-8", "replace"), name, False, bom)


def _decode_detected(data: bytes) -> Text:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            body = data[len(mark) :] if encoding == "utf-8" else data
            return _decode_marked(body, encoding)
    wide = _wide_without_mark(data[:HEAD])
    if wide:
        return _decode_marked(data, wide)
    if _is_binary(data[:HEAD]):
        raise refused("file_not_table", kind="binary data")
    if data.isascii() or _is_utf8(data):
        return Text(data, "utf-8")
    return _decode_legacy(data)


def _decode_marked(data: bytes, encoding: str) -> Text:
    try:
        if encoding == "utf-8" and _is_utf8(data):
            return Text(data, encoding, bom=True)
        return Text(data.decode(encoding).encode(), encoding, bom=True)
    except UnicodeError:
        return Text(data.decode(encoding, "replace").encode("utf-8", "replace"), encoding, damaged=True, bom=True)


def _wide_without_mark(head: bytes) -> str | None:
    """UTF-16 without a mark has a zero in nearly every second byte of plain text."""
    half = len(head) // 2
    if half < 2:
        return None
    if head[1::2].count(0) > 0.7 * half and head[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if head[::2].count(0) > 0.7 * half and head[1::2].count(0) < 0.1 * half else None


def _is_utf8(data: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, len(data), 1 << 22):
            decoder.decode(data[at : at + (1 << 22)])
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _decode_legacy(data: bytes) -> Text:
    """Bytes that are not UTF-8: another encoding if it explains all of them, else UTF-8 with damaged rows."""
    high = data.translate(None, _ASCII)
    whole = sum(len(match) for match in _UTF8_PAIR.findall(data))
    if whole <= len(high) - whole and not set(high) <= {0xC2, 0xC3}:
        encoding = _western(high) or _guessed(data, len(high))
        if encoding:
            return Text(data.decode(encoding).encode(), encoding)
    return Text(data.decode("utf-8", "replace").encode(), "utf-8", damaged=True)


def _western(high: bytes) -> str | None:
    for encoding in _WESTERN_ENCODINGS:
        try:
            if set(high.decode(encoding)) <= _WESTERN:
                return encoding
        except UnicodeDecodeError:
            continue
    return None


def _guessed(data: bytes, high: int) -> str | None:
    """Another alphabet, if there is enough text to tell."""
    if high < 40:
        return None
    best = charset_normalizer.from_bytes(data[:HEAD]).best()
    if best is None or best.encoding.startswith("utf"):
        return None
    try:
        data.decode(best.encoding)
    except UnicodeDecodeError:
        return None
    return best.encoding
