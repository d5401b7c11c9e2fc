"""A bundle is whole or it is refused; a flipped bit never loads."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ml.bundle import load_bundle
from ml.errors import BundleDamaged

DAMAGES = int(os.environ.get("BUNDLE_DAMAGES", "40"))


@pytest.fixture
def copy(bundle_folder, tmp_path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "copy"))


def test_loads_and_holds_no_pickle(bundle_folder):
    bundle = load_bundle(bundle_folder)
    names = {p.name for p in bundle_folder.iterdir()}
    assert names == {"manifest.json", *bundle.manifest.files}
    assert {p.suffix for p in bundle_folder.iterdir()} == {".json", ".parquet", ".ubj"}


def test_every_file_with_one_flipped_bit_is_refused(copy):
    files = sorted(p for p in copy.iterdir() if p.name != "manifest.json")
    assert len(files) >= 5
    for path in files:
        good = path.read_bytes()
        for position in (0, len(good) // 2, len(good) - 1):
            bad = bytearray(good)
            bad[position] ^= 1
            path.write_bytes(bad)
            with pytest.raises(BundleDamaged, match=path.name):
                load_bundle(copy)
        path.write_bytes(good)
    assert load_bundle(copy)


def test_a_changed_manifest_is_refused_or_has_another_fingerprint(copy):
    """What is still valid JSON is caught by the fingerprint that the audit keeps."""
    path = copy / "manifest.json"
    good, fingerprint = path.read_bytes(), load_bundle(copy).fingerprint
    for position in range(0, len(good), len(good) // 40):
        bad = bytearray(good)
        bad[position] ^= 1
        path.write_bytes(bad)
        try:
            assert load_bundle(copy).fingerprint != fingerprint
        except BundleDamaged:
            continue


def test_a_missing_or_foreign_file_is_refused(copy):
    (copy / "extra.bin").write_bytes(b"x")
    with pytest.raises(BundleDamaged, match=r"extra\.bin is not in the manifest"):
        load_bundle(copy)
    (copy / "extra.bin").unlink()
    (copy / "state.parquet").unlink()
    with pytest.raises(BundleDamaged, match=r"state\.parquet is missing"):
        load_bundle(copy)


def test_no_manifest_is_refused(tmp_path):
    with pytest.raises(BundleDamaged, match="manifest"):
        load_bundle(tmp_path)


def damaged(folder, draw):
    """One damage of any kind; what was done, for the message of a failure."""
    files = sorted(path for path in folder.iterdir())
    path, other = draw.sample(files, 2)
    data = path.read_bytes()
    match draw.choice(("bit", "cut", "longer", "swapped", "zeros", "missing", "extra")):
        case "bit":
            position = draw.randrange(len(data))
            path.write_bytes(data[:position] + bytes([data[position] ^ 1 << draw.randrange(8)]) + data[position + 1 :])
            return f"a bit of {path.name} at {position}"
        case "cut":
            path.write_bytes(data[: draw.randrange(len(data))])
        case "longer":
            path.write_bytes(data + draw.randbytes(draw.randrange(1, 100)))
        case "swapped":
            path.write_bytes(other.read_bytes())
            other.write_bytes(data)
        case "zeros":
            position = draw.randrange(len(data))
            path.write_bytes(data[:position] + b"\0" * (len(data) - position))
        case "missing":
            path.unlink()
        case "extra":
            (folder / "model.pkl").write_bytes(b"\x80\x04.")
    return path.name


def test_no_damage_is_loaded(bundle_folder, tmp_path):
    """Forty here; ``BUNDLE_DAMAGES=250`` for more. The fingerprint of the manifest is what the audit keeps."""
    good, draw, loaded = load_bundle(bundle_folder).fingerprint, random.Random(3), []
    for number in range(DAMAGES):
        folder = tmp_path / str(number)
        shutil.copytree(bundle_folder, folder)
        done = damaged(folder, draw)
        try:
            if load_bundle(folder).fingerprint == good:
                loaded.append(done)
        except BundleDamaged:
            pass
        shutil.rmtree(folder)
    print(f"{DAMAGES} damages, {len(loaded)} loaded")
    assert loaded == []
