"""For training scripts: how long each step waits for its input, and what Horovod leaves to the script."""
