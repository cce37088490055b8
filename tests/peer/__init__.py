"""orchnb next to Prefect's own client: the same code, and the differences."""
