"""Know before you pay: what a step will take on which cluster, and what it will cost."""
