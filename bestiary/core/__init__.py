"""The shared tensor core: attention, blocks, key maps, weights and the runtime, written once. It knows no domain."""
