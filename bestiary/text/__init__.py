"""Text: architectures, tokenisation, tasks."""
