"""``python -m bench``: every benchmark there is."""

from bench.start import main

main()
