"""Writes covered images to files. Of the original's metadata only the mark of a generated image is kept."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

from PIL import Image, PngImagePlugin

FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".png": "PNG",
}  # fmt: skip
# The terms of the IPTC for media that a trained model has made, as a whole or in part.
_TERMS = re.compile(rb"(?:compositeWithT|t)rainedAlgorithmicMedia")
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\x00"


def generated_mark(data: bytes) -> str:
    """Return the term by which a file says that its image was generated; empty where it says nothing.

    It stands in XMP or in a manifest of provenance, as text; a PNG may hold XMP compressed.

    Example:
        ```python
        generated_mark(Path("a.png").read_bytes())  # "trainedAlgorithmicMedia"
        ```
    """
    term = _TERMS.search(data)
    if term is None and data[:8] == b"\x89PNG\r\n\x1a\n":
        try:
            with Image.open(io.BytesIO(data)) as image:
                xmp = str(image.info.get("XML:com.adobe.xmp", ""))
        except Exception:  # noqa: BLE001 - a file that cannot be read says nothing
            return ""
        term = _TERMS.search(xmp.encode("utf-8", "ignore"))
    return term.group().decode() if term else ""


def save_cover(cover: Image.Image, path: Path, suffix: str, *, mark: str = "") -> bool:
    """Write a cover in the format that the name of the original promises, or as PNG; return whether that went well.

    Args:
        cover: the image.
        path: the new file.
        suffix: of the original.
        mark: what `generated_mark` returned for the original; kept where the format can hold it.
    """
    for kind in dict.fromkeys((FORMATS.get(suffix, "PNG"), "PNG")):
        try:
            path.write_bytes(_encoded(cover, kind, mark))
            return True
        except (OSError, ValueError):  # a full disk, or more pixels than the format can hold
            continue
    return False


def _encoded(cover: Image.Image, kind: str, mark: str) -> bytes:
    file = io.BytesIO()
    xmp = _XMP.format(SOURCE_TYPE + mark).encode() if mark else b""
    if kind == "PNG" and mark:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        cover.save(file, format=kind, pnginfo=info)
    elif kind == "WEBP" and mark:
        cover.save(file, format=kind, xmp=xmp)
    else:
        cover.save(file, format=kind)
    data = file.getvalue()
    if kind == "JPEG" and mark:  # a segment of its own behind the first two bytes
        segment = _JPEG_XMP + xmp
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    return data
