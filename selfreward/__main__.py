"""`python -m selfreward` is the console script `selfreward`."""

from selfreward.cli import main

main()
