"""Where state outlives a process: ledger, schemas, keys. One Protocol, several stores."""
