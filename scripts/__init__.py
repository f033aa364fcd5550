"""Short programs to run, to copy and to change: `python -m bestiary.scripts.demo`."""
