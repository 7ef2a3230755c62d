"""What `make bench-augment` is made of: the contenders, each in a process of its own, and how they are measured."""
