"""`python -m scripts.command_line` is the program `image-classifier`."""

from scripts.command_line.program import main

main()
