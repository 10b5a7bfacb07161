"""The loop: it is handed an objective and items, never a method."""
