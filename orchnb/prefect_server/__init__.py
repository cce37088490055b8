"""Everything that touches the internals of Prefect's server."""
