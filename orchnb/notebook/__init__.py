"""What orchnb is in a notebook: magics, displays, error cards.

The only floor that knows IPython. It uses the floors above it as any user would.
"""
