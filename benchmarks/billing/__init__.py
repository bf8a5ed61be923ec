"""An upstream that keeps its own invoice, clients that behave badly, and the comparison with our ledger."""
