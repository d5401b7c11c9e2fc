"""Predict: one day, the next days, or the rows of a file."""

from control_room.framed import within_frame
from control_room.views import predict

within_frame("predict")
predict.lead()
ways = {"day": predict.one_day, "days": predict.next_days, "file": predict.a_file}
ways[predict.way()]()
