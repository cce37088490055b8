"""The HTTP layer: retries, CSRF tokens, errors with explanations.

It knows nothing about flows or notebooks.
"""
