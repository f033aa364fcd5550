"""The cases of the benchmark, one file for each thing that is measured."""
