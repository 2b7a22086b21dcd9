"""An index on many devices: what it holds, as one hash, and updates from one state to the next."""
