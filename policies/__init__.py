"""What is decided: which model, how much context, try again or give up, when to release. Pure."""
