"""Upload: load a file, see how it is read, decide, start the ETL."""

from control_room.framed import within_frame
from control_room.views import upload

within_frame("upload")
upload.lead()
upload.choose_file()
upload.in_hand()
upload.etl()
upload.list_of_uploads()
