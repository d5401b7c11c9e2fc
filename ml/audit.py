"""Whether the audit of promotions is as it was written: ``python -m ml.audit [--head HASH]``.

Each row holds a hash of its content and of the row before. A row that was changed, or taken out from between others, is
found. What is missing at the end, or a chain that somebody has made anew from the start, only a hash shows that was
noted elsewhere before: this command prints the last one, and ``--head`` looks for it.
"""

from __future__ import annotations

import argparse
import sys

import sqlalchemy as sa

from ml.errors import ControlRoomError, SettingsError
from ml.settings import load_settings, variable
from ml.store import NO_HASH, Store, promotions


def verified(store: Store, known: str = "") -> str:
    """The hash of the last row, of a chain that is whole and holds the row of ``known``.

    Raises
    ------
    ControlRoomError
        It is not; the message says where.
    """
    if (broken := store.broken_promotion()) is not None:
        raise ControlRoomError(f"Row {broken} was changed, or a row before it is missing.")
    with store.begin() as connection:
        hashes = connection.scalars(sa.select(promotions.c.hash).order_by(promotions.c.promotion_id)).all()
    if known and known not in hashes:
        raise ControlRoomError(f"No row has the hash {known}: rows at the end are missing, or all were written anew.")
    return hashes[-1] if hashes else NO_HASH


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ml.audit", description=__doc__)
    parser.add_argument("--head", default="", help="the hash of a row that was the last one once")
    asked = parser.parse_args(arguments)
    try:
        url = load_settings().database_url
        if not url:
            raise SettingsError(f"{variable('database_url')} is not set.", key="database_url")
        store = Store(url)
        try:
            head = verified(store, asked.head)
        finally:
            store.close()
    except ControlRoomError as error:
        print(f"{error.title}: {error}", file=sys.stderr)
        return 1
    print(f"The audit is whole. Its last hash: {head}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
