"""Run ASGI apps in this process: their lifespans, the host thread, and the port."""
