"""Talking HTTP well: retries, CSRF tokens, errors that explain themselves.

Knows nothing of flows, loops or notebooks.
"""
