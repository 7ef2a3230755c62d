"""One entry point on every host of the job: servers on the data hosts, the training script on the others."""
