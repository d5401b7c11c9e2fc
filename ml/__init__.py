"""The product: everything that reads, learns, judges and forecasts."""

import os

# OpenMP threads that spin while they wait burn the cores that the other services share: training beside them took
# 56 s spinning and 17 s sleeping. The OpenMP library reads this when it is loaded, with XGBoost or with scikit-learn,
# whichever is imported first: hence here, before anything of ours.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
