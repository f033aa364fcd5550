"""Cards, the registry of them, sources, the store and verification. Knows no torch and no domain."""
