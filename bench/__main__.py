"""``python -m bench``: the start of the product and the speed of the engine, each with its own figures."""

import sys

from bench import engine, start

start.main()
sys.stdout.flush()
engine.main([])
