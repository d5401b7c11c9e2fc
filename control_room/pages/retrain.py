"""Retrain: what is true now, the advice, settings of a run, the run itself, its outcome; and the ETL by hand."""

from control_room.framed import within_frame
from control_room.views import advice, retrain

within_frame("retrain")
retrain.lead()
advice.show()
advice.evidence()
retrain.form()
retrain.run()
retrain.etl_by_hand()
