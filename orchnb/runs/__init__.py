"""Follow runs: wait for them, watch them, read their logs and results. No display code."""
