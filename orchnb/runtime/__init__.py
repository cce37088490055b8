"""Where code runs: event loops, apps' lifespans, the host thread, and the server inside this process."""
