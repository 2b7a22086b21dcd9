"""The installed bundles, a folder each."""
