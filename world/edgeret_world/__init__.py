"""Bundles of edgeret for many languages, each a folder beside this file; edgeret finds them by their names."""
