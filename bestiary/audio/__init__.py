"""Sound: reading, features, architectures, tasks."""
