"""HTTP in front of ``ml``: forecasts, history, uploads, runs, models. A route is a few lines."""

__version__ = "0.1.0"
