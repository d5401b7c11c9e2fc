"""What tests of jobs share: asking for one, working it off in this process, taking the file."""

from __future__ import annotations

import io

import polars as pl

from ml.records import Job

READ = {"csv": pl.read_csv, "xlsx": pl.read_excel, "parquet": pl.read_parquet}


def begun(reply):
    """The status that a job was asked for with, and the job."""
    assert reply.status_code in (200, 202), reply.text
    assert reply.headers["Location"] == f"/v1/jobs/{reply.json()['job_id']}"
    return reply.status_code, Job.model_validate(reply.json())


def one(api, job):
    return Job.model_validate(api.get(f"/v1/jobs/{job.job_id}").json())


def content(api, job, format="csv"):
    """The result's file."""
    reply = api.get(f"/v1/jobs/{job.job_id}/result", params={"format": format})
    assert reply.status_code == 200, reply.text
    return reply.content


def result(api, job, format="csv"):
    return READ[format](io.BytesIO(content(api, job, format)))


def worked_off(worker):
    while worker.work_once():
        pass
