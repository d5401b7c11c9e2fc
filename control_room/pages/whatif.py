"""What-if: a baseline and up to four plans of prices and promotions, what each would sell and earn; kept and shared."""

from control_room.framed import within_frame
from control_room.views import planning, whatif

within_frame("whatif")
opening = whatif.opening()
plan = planning.plan()
found = whatif.compare(plan)
whatif.lead(opening, found)
whatif.chart(found)
whatif.table(found)
whatif.keep(found)
whatif.kept()
