"""The world: sockets, disks, metrics, and the story of one exchange (`proxy/exchange.py`)."""
