"""Data health: how fresh and complete the data is, what is unusual in it, and how far it has drifted."""

from control_room.framed import within_frame
from control_room.views import data_health

within_frame("data_health")
data_health.lead()
data_health.figures()
data_health.checked()
data_health.missing()
data_health.unusual()
data_health.drifted()
data_health.told_and_sold()
