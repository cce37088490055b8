"""The orchestration API: what can be asked for, of what, and what comes back."""
