"""Predict: one day, the next days, or the rows of a file."""

from control_room import session
from control_room.framed import within_frame
from control_room.views import person, predict

within_frame("predict")
if session.may_open("predict"):
    predict.lead()
    ways = {"day": predict.one_day, "days": predict.next_days, "file": predict.a_file}
    ways[predict.way()]()
else:
    person.not_yours("predict")
    predict.files_of_others()
