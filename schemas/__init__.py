"""What is known of text and JSON: find it in a reply, mend it, check it against a schema. Pure."""
