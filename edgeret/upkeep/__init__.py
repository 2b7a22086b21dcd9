"""What keeps an index sound, small and current: check, compact, recode, reencode, repair, optimize."""
