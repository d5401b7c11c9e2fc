"""History: every prediction that was asked, with what really sold where it is known."""

from control_room.framed import within_frame
from control_room.views import history, prediction, retold

within_frame("history")
history.lead()
filters = history.filters()
page = history.page(filters)
history.table(page, filters)
history.turn(page)
history.everything(page, filters)
prediction.detail()
retold.retelling(filters)
