"""Images: architectures, preprocessing, tasks."""
