"""qfleet's Python side (docs/environments.md)."""
