"""The formats on the wire, as pure functions: bytes in, values out, and back."""
