"""How to talk to a provider: one adapter per dialect, over a narrow transport."""
