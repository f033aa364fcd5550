"""From a name to verified files: cards, registry, sources, store. Knows no torch and no domain."""
