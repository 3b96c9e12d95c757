"""Options of the command line: those that verbs share, then those of each verb.

Nothing here imports what is slow to import: help answers at once.
"""
