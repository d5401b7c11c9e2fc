"""Health check of a container: ``healthy.py URL``, ``healthy.py AIRFLOW_URL scheduler|dag_processor`` or
``healthy.py DATA_FOLDER worker``."""

import sys
from pathlib import Path

from deploy.probes import airflow_part, answers, beats

place, *part = sys.argv[1:]
probe = beats(Path(place)) if part == ["worker"] else airflow_part(place, part[0]) if part else answers(place)
sys.exit(0 if probe() else 1)
