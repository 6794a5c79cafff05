# SPDX-License-Identifier: MIT
"""The media type that goes with a file's name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["DEFAULT_TYPE", "guess_type"]

#: What is said of a file whose name tells nothing (RFC 2046 section 4.5.1).
DEFAULT_TYPE: Final = "application/octet-stream"

_OPEN: Final = "application/vnd.oasis.opendocument."
_OFFICE: Final = "application/vnd.openxmlformats-officedocument."

# A table of our own, so that a mail does not depend on the machine's /etc/mime.types or on
# Python's version. Mails (.eml) are left out: message/rfc822 must not be base64 (RFC 2046 5.2.1).
_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "7z": "application/x-7z-compressed",
        "aac": "audio/aac",
        "ai": "application/postscript",
        "apng": "image/apng",
        "avi": "video/x-msvideo",
        "avif": "image/avif",
        "bmp": "image/bmp",
        "bz2": "application/x-bzip2",
        "css": "text/css",
        "csv": "text/csv",
        "doc": "application/msword",
        "docm": "application/vnd.ms-word.document.macroEnabled.12",
        "docx": f"{_OFFICE}wordprocessingml.document",
        "dot": "application/msword",
        "dotx": f"{_OFFICE}wordprocessingml.template",
        "eps": "application/postscript",
        "epub": "application/epub+zip",
        "flac": "audio/flac",
        "gif": "image/gif",
        "gz": "application/gzip",
        "heic": "image/heic",
        "heif": "image/heif",
        "htm": "text/html",
        "html": "text/html",
        "ico": "image/vnd.microsoft.icon",
        "ics": "text/calendar",
        "jfif": "image/jpeg",
        "jpe": "image/jpeg",
        "jpeg": "image/jpeg",
        "jpg": "image/jpeg",
        "js": "text/javascript",
        "json": "application/json",
        "jsonld": "application/ld+json",
        "log": "text/plain",
        "m4a": "audio/mp4",
        "m4v": "video/mp4",
        "md": "text/markdown",
        "mid": "audio/midi",
        "midi": "audio/midi",
        "mjs": "text/javascript",
        "mkv": "video/x-matroska",
        "mov": "video/quicktime",
        "mp3": "audio/mpeg",
        "mp4": "video/mp4",
        "mpeg": "video/mpeg",
        "mpg": "video/mpeg",
        "odg": f"{_OPEN}graphics",
        "odp": f"{_OPEN}presentation",
        "ods": f"{_OPEN}spreadsheet",
        "odt": f"{_OPEN}text",
        "oga": "audio/ogg",
        "ogg": "audio/ogg",
        "ogv": "video/ogg",
        "opus": "audio/ogg",
        "otf": "font/otf",
        "p7m": "application/pkcs7-mime",
        "p7s": "application/pkcs7-signature",
        "pdf": "application/pdf",
        "pgp": "application/pgp-encrypted",
        "png": "image/png",
        "pot": "application/vnd.ms-powerpoint",
        "pps": "application/vnd.ms-powerpoint",
        "ppsx": f"{_OFFICE}presentationml.slideshow",
        "ppt": "application/vnd.ms-powerpoint",
        "pptx": f"{_OFFICE}presentationml.presentation",
        "ps": "application/postscript",
        "psd": "image/vnd.adobe.photoshop",
        "rar": "application/vnd.rar",
        "rtf": "application/rtf",
        "svg": "image/svg+xml",
        "svgz": "image/svg+xml",
        "tar": "application/x-tar",
        "text": "text/plain",
        "tgz": "application/gzip",
        "tif": "image/tiff",
        "tiff": "image/tiff",
        "tsv": "text/tab-separated-values",
        "ttf": "font/ttf",
        "txt": "text/plain",
        "vcard": "text/vcard",
        "vcf": "text/vcard",
        "vcs": "text/x-vcalendar",
        "wav": "audio/x-wav",
        "weba": "audio/webm",
        "webm": "video/webm",
        "webp": "image/webp",
        "wma": "audio/x-ms-wma",
        "wmv": "video/x-ms-wmv",
        "woff": "font/woff",
        "woff2": "font/woff2",
        "xls": "application/vnd.ms-excel",
        "xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
        "xlsx": f"{_OFFICE}spreadsheetml.sheet",
        "xml": "application/xml",
        "xz": "application/x-xz",
        "yaml": "application/yaml",
        "yml": "application/yaml",
        "zip": "application/zip",
        "zst": "application/zstd",
    }
)


def guess_type(*names: str) -> str:
    """Give the media type of the first name whose ending is known, else DEFAULT_TYPE."""
    for name in names:
        _, dot, ending = name.rpartition(".")
        known = _TYPES.get(ending.lower()) if dot else None
        if known is not None:
            return known
    return DEFAULT_TYPE
