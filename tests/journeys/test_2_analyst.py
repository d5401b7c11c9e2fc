"""An analyst: reads the advice, retrains and follows the run, finds out why another one failed, reads the verdict."""

from tests.journeys.conftest import RUN_SECONDS


def test_a_retraining_is_advised_on_started_and_followed(visitor):
    visitor.go("retrain")
    visitor.see("^Advice: ")
    visitor.choose("Learn from", "the last year")
    visitor.choose("When it is better", "wait for a manager")
    visitor.click("Start retraining")
    visitor.see("of 7 steps done", 60)
    visitor.shot("analyst-1-running")
    run = visitor.page.url.partition("run=")[2].partition("&")[0]
    visitor.page.reload()  # nothing is lost by it
    assert run in visitor.page.url
    visitor.see("The run has ended", RUN_SECONDS)
    visitor.shot("analyst-2-ended")
    assert visitor.api(f"/v1/runs/retrain_sales_model/{run}")["state"] == "success"


def test_a_failing_step_shows_its_log(visitor):
    visitor.go("retrain")
    visitor.see("Run the ETL by hand").click()
    visitor.choose("Take the data from", "a file or address")
    visitor.fill("File or address, when it is “a file or address”", "/no/such/sales.csv")
    visitor.click("Start the ETL")
    visitor.see("Log of “collect", RUN_SECONDS)
    visitor.see("/no/such/sales.csv", 60)
    visitor.shot("analyst-3-failed")
    visitor.go("pipelines")
    visitor.see("failed")
    visitor.shot("analyst-4-pipelines")


def test_the_verdict_is_read(visitor):
    newest = max(visitor.api("/v1/models")["items"], key=lambda model: model["created_at"])
    visitor.go("experiments")
    visitor.see(f"v{newest['version']}")
    visitor.see("Side by side")
    visitor.shot("analyst-5-experiments")
