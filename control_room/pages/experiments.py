"""Experiments: is the challenger better, by how much, and may it serve?"""

from control_room.framed import within_frame
from control_room.views import evidence, experiments

within_frame("experiments")
report = experiments.choose()
experiments.verdict(report)
experiments.decide(report)
experiments.paper(report)
experiments.metrics(report)
experiments.totals(report)
experiments.by_week_and_fold(report)
evidence.behind(report)
experiments.audit()
