"""Commands of `python -m proxy` beside serving: each file adds one."""
