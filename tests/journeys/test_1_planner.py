"""A planner: a messy file from the till becomes next month's forecast, a decision on a promotion, and a workbook."""

from tests.journeys.conftest import RUN_SECONDS
from tests.journeys.messy import LAST, messy_csv


def test_a_messy_file_is_understood_accepted_and_published(visitor, tmp_path):
    file = tmp_path / "ventas tpv.csv"
    file.write_bytes(messy_csv())

    # the file is read, its faults are named, one column is not understood by itself and is told
    visitor.go("upload")
    visitor.page.locator("input[type=file]").first.set_input_files(file)
    visitor.see("The file can be used without the rows listed below")
    visitor.see("n/d in Cant. is not a number")
    visitor.see("TOTAL in Día venta is not a date")
    visitor.see("repeats an earlier row")
    visitor.see("How we read it").click()
    visitor.choose("Promotion", "Camp.")
    visitor.click("Read it again")
    visitor.see("Promotion · 100 ?% sure")
    visitor.shot("planner-1-upload")
    visitor.click("Accept as training data")

    visitor.click("Start the ETL with 1 accepted file")
    visitor.see("The data is published", RUN_SECONDS)
    snapshot = visitor.api("/v1/snapshot")
    assert (snapshot["stores"], snapshot["products"], snapshot["date_to"]) == (2, 3, LAST.isoformat())


def test_a_model_learns_from_it(visitor):
    before, snapshot = visitor.api("/health")["champion"]["version"], visitor.api("/v1/snapshot")
    visitor.go("retrain")
    visitor.click("Start retraining")
    # the outcome of the run before stays for a moment: what the page says at its top tells them apart
    visitor.see("A retraining is running", 60)
    visitor.see("No retraining is running", RUN_SECONDS)
    after = visitor.api("/health")
    assert after["champion"]["version"] != before
    assert after["data_version"] == snapshot["data_version"]


def test_next_month_comes_as_chart_table_and_workbook(visitor):
    champion = visitor.api("/health")["champion"]["version"]
    visitor.go("predict", way="days", store="Centro", product="Té verde")
    visitor.click("^Forecast")
    visitor.see("expected from")
    visitor.shot("planner-2-forecast")
    cover, table = visitor.sheet("forecast-xlsx").values()
    assert f"v{champion}" in str(cover.rows())
    assert len(table) == 28
    assert table["Forecast"].is_between(500, 3000).all()


def test_a_promotion_is_tried_before_it_is_decided(visitor):
    visitor.go("whatif", store="Centro", product="Té verde")
    visitor.page.get_by_role("tab", name="Scenario A").click()
    visitor.click("Fill several days")
    visitor.fill("Promotion", "1")
    visitor.fill("Price", "2.56")
    visitor.click("^Fill$")
    visitor.click("^Compare")
    visitor.see("would sell .* more than the baseline")
    visitor.shot("planner-3-what-if")
    cover, table = visitor.sheet("what-if-total-xlsx").values()
    assert "Té verde" in str(cover.rows())
    units = dict(table.select("Scenario", "Units").iter_rows())
    assert units["Scenario A"] > 1.2 * units["Baseline"]
