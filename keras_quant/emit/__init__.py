"""Writes graphs as files of other runtimes. Emitters do not import each other."""
