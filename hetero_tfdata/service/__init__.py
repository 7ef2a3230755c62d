"""The servers that run a dataset on other hosts, and the client side: distribute().

This package imports TensorFlow only inside server processes and when a dataset is distributed.
"""
