"""What is in the index file: one SQLite file, its tables, its transactions."""
