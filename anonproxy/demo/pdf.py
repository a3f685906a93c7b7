"""Just enough PDF for a one-page notice."""

ESCAPES = str.maketrans({"\\": r"\\", "(": r"\(", ")": r"\)"})
A4 = (595, 842)
LINE_HEIGHT = 22


def render_pdf(title: str, lines: list[str]) -> bytes:
    """Set a title and lines of text on one page.

    Source: ISO 32000-1 section 7.5 (header, objects, cross-reference table, trailer)
    """
    text = render_text(title, lines)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R" % A4
        + b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n" % len(text) + text + b"\nendstream",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman /Encoding /WinAnsiEncoding >>",
    ]
    document = bytearray(b"%PDF-1.4\n")
    starts = []
    for number, body in enumerate(objects, 1):
        starts.append(len(document))
        document += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % start for start in starts)
    size = len(objects) + 1
    return bytes(
        document
        + b"xref\n0 %d\n0000000000 65535 f \n" % size
        + table
        + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(document))
    )


def render_text(title: str, lines: list[str]) -> bytes:
    """Write the drawing commands: the title large, then line by line."""
    shown = [f"BT /F1 26 Tf 72 750 Td ({title.translate(ESCAPES)}) Tj"]
    shown.append(f"/F1 13 Tf 0 {-2 * LINE_HEIGHT} Td {LINE_HEIGHT} TL")
    shown += [f"({line.translate(ESCAPES)}) Tj T*" for line in lines]
    return "\n".join([*shown, "ET"]).encode("cp1252", "replace")
