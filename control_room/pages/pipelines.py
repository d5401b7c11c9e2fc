"""Pipelines: both DAGs, their last runs and schedule, one run with its tasks, logs and what went in and out."""

from control_room.framed import within_frame
from control_room.views import pipelines

within_frame("pipelines")
pipelines.lead()
pipelines.cards()
dag_id = pipelines.which()
run = pipelines.runs(dag_id)
pipelines.one_run(run)
pipelines.flow(run)
pipelines.log(run)
