"""View models, and the templates that show them."""
