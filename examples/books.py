"""The books that the language model learned from: Shakespeare, and "War and Peace" up to its first epilogue.

    python examples/books.py tinyshakespeare.txt war-and-peace.txt.gz FOLDER

The novel is Project Gutenberg's text (translated by L. and A. Maude; in the public domain) without what is
not the novel, a paragraph a line. Writes books.txt to learn from and epilogue.txt to validate.
"""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path


def novel(text: str) -> str:
    """The novel itself, a paragraph a line."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    _, first = (
        each.start() for each in re.finditer("BOOK ONE: 1805", text)
    )  # of the contents, and of the novel
    last = text.index("*** END OF THIS PROJECT")
    marked = text.rfind("End of the Project Gutenberg", 0, last)
    paragraphs = re.split(r"\n\s*\n", text[first : last if marked < 0 else marked])
    return "".join(f"{' '.join(each.split())}\n" for each in paragraphs if each.strip())


def main(plays: str, war: str, folder: str) -> None:
    """Writes both files."""
    with gzip.open(war, "rt", encoding="utf-8", newline="") as file:
        text = novel(file.read())
    at = text.index("FIRST EPILOGUE")
    Path(folder).mkdir(parents=True, exist_ok=True)
    learned = Path(plays).read_text(encoding="utf-8").rstrip() + "\n\n" + text[:at]
    for name, part in (("books", learned), ("epilogue", text[at:])):
        Path(folder, f"{name}.txt").write_text(part, encoding="utf-8")
        print(f"{name}.txt: {len(part):,} characters")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
