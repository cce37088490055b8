"""The notebook layer: magics, displays, error cards.

This is the only layer that knows IPython. It uses the other layers as any user would.
"""
