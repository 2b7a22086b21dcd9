"""From the files of a folder to documents: what lies there, how it is read, and where a text is cut."""
