"""Accuracy: what was predicted beside what was sold, over time, by segment, against seasonal naive; the worst days."""

from control_room.framed import within_frame
from control_room.views import accuracy

within_frame("accuracy")
opening = accuracy.opening()
chosen = accuracy.filters()
whole = accuracy.whole(chosen)
accuracy.lead(opening, whole)
accuracy.measures(whole)
accuracy.over_time(whole)
accuracy.by_segment(whole)
accuracy.worst_days(whole)
