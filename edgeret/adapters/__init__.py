"""Adapters: an index as the frameworks know a store, each by a module that imports the framework it is named after."""
