"""API & access: where the API answers, how a program calls it, who may, and who did what."""

from control_room.framed import within_frame
from control_room.views import access, audit, people

within_frame("access")
access.lead()
access.from_a_program()
people.own_password()
people.accounts()
access.keys()
access.limits()
access.errors()
audit.show()
access.audit()
