"""Ways to hide a part of an item: nothing here learns."""
