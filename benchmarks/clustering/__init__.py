"""The scale model of the published comparison: an emulated cluster, an emulated accelerator, real CPU work."""
