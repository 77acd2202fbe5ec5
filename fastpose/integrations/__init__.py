"""FastPose inside of other people's systems, a module each; none of these is needed by anything else."""
