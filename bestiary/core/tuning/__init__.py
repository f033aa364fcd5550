"""The engine of fine-tuning, for every domain: what a run asks for, the order of its data, its steps and its checkpoints."""
