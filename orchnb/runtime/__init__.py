"""Where code runs: event loops, apps' lifespans, the host thread, and the in-kernel server."""
