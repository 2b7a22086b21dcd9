"""The command line: its grammar, what it reads, what it prints."""
