import pytest

from deploy.logs import ChildLog

AIRFLOW = "2026-11-23T19:00:48.514600Z [\x1b[31merror    ]\x1b[0m Task failed [task] error_count=0"
PRINTED = "2026-11-23T19:18:27.599335Z [error    ] Created version 1. [task.stderr]"
HARMLESS = 'INFO: 127.0.0.1 - "GET /ERROR.html" 200 error_count=0 [py.warnings] category=StarletteDeprecationWarning'


@pytest.fixture
def log(tmp_path):
    return ChildLog(tmp_path / "logs" / "api.log", limit=1000)


def write(log, *lines):
    with log.open() as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def test_only_lines_of_the_level_and_only_once(log):
    log.open().close()
    with log.path.open("a") as file:
        file.write(
            f"{HARMLESS}\n{PRINTED}\nWARNING: little disk\nERROR:api:no\n{AIRFLOW}\nTraceback (most recent call):\n"
        )
    assert [line[:9] for line in log.news("ERROR")] == ["ERROR:api", "2026-11-2", "Traceback"]
    assert log.news("ERROR") == []


def test_levels(log):
    log.open().close()
    with log.path.open("a") as file:
        file.write("UTC [1] ERROR:  relation does not exist\nUTC [1] FATAL:  no space\nx [warning  ] slow\n")
    text = log.path.read_text()
    assert len(log.news("FATAL")) == 1
    log.path.write_text("")
    log.open().close()
    log.path.write_text(text)
    assert len(log.news("WARNING")) == 3


def test_half_a_line_waits_for_its_end(log):
    log.open().close()
    with log.path.open("a") as file:
        file.write("ERROR: the disk")
        file.flush()
        assert log.news("ERROR") == []
        file.write(" is full\n")
    assert log.news("ERROR") == ["ERROR: the disk is full"]


def test_earlier_runs_are_not_news(log):
    write(log, "ERROR: yesterday")
    log.open().close()
    assert log.news("ERROR") == []


def test_a_long_file_is_set_aside_and_writing_goes_on(log):
    with log.open() as file:
        file.write(b"x" * 2000 + b"\n")
        file.flush()
        log.shrink()
        file.write(b"ERROR: after\n")
    assert log.path.read_text() == "ERROR: after\n"
    assert log.path.with_suffix(".log.1").stat().st_size == 2001
    assert log.news("ERROR") == ["ERROR: after"]


def test_tail(log):
    assert log.tail() == ""
    write(log, *map(str, range(100)))
    assert log.tail(3) == "97\n98\n99"
