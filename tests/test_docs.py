"""README, .env.example and the settings class say the same, and examples in docstrings give what they say."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

from ml.settings import PREFIX, Settings, load_settings, variable

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
FIELDS = Settings.model_fields


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _defaults() -> dict[str, str]:
    return {variable(name): _text(field.default) for name, field in FIELDS.items()}


def _row(name: str) -> str:
    """The line of the README's table that a setting must have."""
    default = _text(FIELDS[name].default)
    return f"| `{variable(name)}` | {f'`{default}`' if default else ''} | {FIELDS[name].description} |"


def test_readme_has_one_line_per_setting_in_their_order():
    table = README.partition("<!-- settings:")[2].partition("<!-- end of settings -->")[0]
    lines = [line for line in table.splitlines() if line.startswith(f"| `{PREFIX}")]
    assert lines == [_row(name) for name in FIELDS], "copy the lines that are expected into README.md"


def test_example_file_names_every_setting_with_its_default():
    lines = re.findall(rf"^#?({PREFIX}\w+)=(.*)$", EXAMPLE, re.MULTILINE)
    given = dict(lines)
    assert len(given) == len(lines), "a setting is named twice"
    secrets = {name for name, value in given.items() if "change-me" in value}
    expected = {name: value for name, value in _defaults().items() if name not in secrets}
    assert {name: value for name, value in given.items() if name not in secrets} == expected
    assert secrets <= set(_defaults())


def test_example_file_is_read_as_the_defaults():
    active = dict(re.findall(rf"^({PREFIX}\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    secrets = {name for name, value in active.items() if "change-me" in value}
    assert load_settings({name: value for name, value in active.items() if name not in secrets}) == Settings()


def test_readme_names_only_settings_that_exist():
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", README)) - {PREFIX}
    assert named <= set(_defaults())


@pytest.mark.parametrize("document", [README, *(p.read_text() for p in sorted((ROOT / "docs").glob("*.md")))])
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document):
        if "://" not in target:
            assert (ROOT / target).exists() or (ROOT / "docs" / target).exists(), target


def test_commands_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in set(re.findall(r"\bdeploy/\w+\.py\b", README)):
        assert (ROOT / path).is_file(), path
    for module in set(re.findall(r"python -m ([\w.]+)", README)):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_addresses_of_the_readme_are_the_defaults():
    ports = {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", README)}
    assert ports == {FIELDS[f"{name}_port"].default for name in ("console", "api", "airflow", "mlflow")}


WITH_EXAMPLES = [
    path.relative_to(ROOT).with_suffix("")
    for folder in ("api", "bench", "control_room", "deploy", "ml")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_examples_in_docstrings_give_what_they_say(path):
    module = importlib.import_module(".".join(path.parts))
    assert doctest.testmod(module).failed == 0
