"""Bring the catalogues up to date with the code: ``python -m control_room.i18n``."""

from __future__ import annotations

from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po, write_po

from control_room.i18n import LANGUAGES, catalogue_path

PACKAGE = Path(__file__).resolve().parents[1]
KEYWORDS = {**DEFAULT_KEYWORDS, "N_": None}


def extracted() -> Catalog:
    """Every sentence marked in the console's code."""
    template = Catalog(project="control room", charset="utf-8", fuzzy=False)
    found = extract_from_dir(PACKAGE, [("**.py", "python")], keywords=KEYWORDS, comment_tags=("L10N:",))
    for filename, _line, message, comments, context in found:
        template.add(message, locations=[(Path(filename).as_posix(), 0)], auto_comments=comments, context=context)
    return template


def update(language: str) -> int:
    """Add what is new to one catalogue, drop what is gone; returns how many lack a translation."""
    path = catalogue_path(language)
    catalog = Catalog(locale=language, fuzzy=False)
    if path.exists():
        with path.open("rb") as file:
            catalog = read_po(file, locale=language)
    catalog.update(extracted(), no_fuzzy_matching=True)
    catalog.obsolete.clear()
    with path.open("wb") as file:
        write_po(file, catalog, width=120, sort_output=True, omit_header=False, include_lineno=False)
    return sum(1 for message in catalog if message.id and not _translated(message.string))


def _translated(text: object) -> bool:
    return all(text) if isinstance(text, list | tuple) else bool(text)


if __name__ == "__main__":
    for each in LANGUAGES:
        missing = update(each)
        print(f"{each}: {missing} without a translation" + (" (msgids are English)" if each == "en" else ""))
