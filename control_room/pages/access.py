"""API & access: where the API answers, how a program calls it, who may, and who moved the champion."""

from control_room.framed import within_frame
from control_room.views import access

within_frame("access")
access.lead()
access.from_a_program()
access.keys()
access.limits()
access.errors()
access.audit()
