"""Health check of a container: ``healthy.py URL`` or ``healthy.py AIRFLOW_URL scheduler|dag_processor``."""

import sys

from deploy.probes import airflow_part, answers

url, *part = sys.argv[1:]
sys.exit(0 if (airflow_part(url, part[0]) if part else answers(url))() else 1)
