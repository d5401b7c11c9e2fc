"""Retrain: what is true now, the settings of a run, the run itself, its outcome; and the ETL by hand."""

from control_room.views import retrain

retrain.lead()
retrain.form()
retrain.run()
retrain.etl_by_hand()
