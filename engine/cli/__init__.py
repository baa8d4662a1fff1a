"""The command line: one module per verb, each named like its verb."""
