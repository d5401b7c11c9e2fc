import stat

import pytest

from deploy.keys import Keys, load_keys
from ml.errors import SettingsError


def test_made_once_private_and_kept(tmp_path):
    made = load_keys(tmp_path)
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert load_keys(tmp_path) == made
    assert len({*made.model_dump().values()}) == len(Keys.model_fields)
    assert len(made.airflow_jwt) == 64


def test_a_key_that_an_older_file_lacks_is_added_and_stays(tmp_path):
    old = Keys()
    (tmp_path / "secrets.json").write_text(old.model_dump_json(exclude={"airflow_jwt"}))
    first = load_keys(tmp_path)
    assert first.postgres == old.postgres
    assert load_keys(tmp_path).airflow_jwt == first.airflow_jwt


@pytest.mark.parametrize("content", ["", "{", '{"postgres": 1}', '{"another": "key"}'])
def test_a_damaged_file_is_not_made_anew(tmp_path, content):
    (tmp_path / "secrets.json").write_text(content)
    with pytest.raises(SettingsError, match="is damaged"):
        load_keys(tmp_path)
    assert (tmp_path / "secrets.json").read_text() == content
